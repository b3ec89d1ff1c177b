using System.Globalization;
using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;

namespace Famfs.Master.Rpc;

/// <summary>What every call passes before it is one: the limit of calls, and the meter of what it receives.</summary>
internal sealed class CallGate(CallBudget budget, Refusals refusals)
{
    private const string Bulk = "/famfs.v1.Master/CreateFiles";

    /// <summary>Runs a call, or refuses it with RESOURCE_EXHAUSTED.</summary>
    public async Task RunAsync(HttpContext context, RequestDelegate next)
    {
        // Connections of a server that was not set up by ListenAddresses have none.
        CallBudget.Connection connection = context.Features.Get<CallBudget.Connection>() ?? budget.Open(CallerIdentity.Of(context).Name);
        if (!connection.TryBeginCall(out int limit))
        {
            // An answer that nobody takes stays here, also when it is a refusal.
            context.Response.OnCompleted(() => Done(connection.EndRefusal));
            if (!connection.TryBeginRefusal())
            {
                context.Features.Get<IConnectionLifetimeFeature>()?.Abort();
                return;
            }
            string whose = limit == CallLimits.Calls ? "the master has" : $"{CallerIdentity.Of(context).Name} has";
            Refuse(context, new(ErrorReason.Overloaded, $"{whose} {limit} calls under way, the limit") { Limit = (ulong)limit });
            return;
        }
        // Not before its trailers are written: a caller that takes nothing keeps the call.
        context.Response.OnCompleted(() => Done(connection.EndCall));
        string path = context.Request.Path.Value ?? "";
        MeteredBody? body = TryMeter(context, connection, path);
        if (body is null)
            return;
        using (body)
        {
            context.Features.Set<IRequestBodyPipeFeature>(body);
            context.Features.Set(body);
            await next(context).ConfigureAwait(false);
        }
    }

    private static Task Done(Action end)
    {
        end();
        return Task.CompletedTask;
    }

    private MeteredBody? TryMeter(HttpContext context, CallBudget.Connection connection, string path)
    {
        try
        {
            (int limit, int perByte) = path == Bulk ? (CallLimits.BulkMessageBytes, CallLimits.BulkPerByte) : (CallLimits.MessageBytes, CallLimits.ObjectsPerByte);
            return new(context.Request.BodyReader, connection, MethodOf(path), limit, perByte, HeaderBytes(context)) { Refusals = refusals };
        }
        catch (FamfsException error)
        {
            Refuse(context, error);
            return null;
        }
    }

    /// <summary>What the metadata of a call take as texts.</summary>
    private static int HeaderBytes(HttpContext context)
    {
        int bytes = 0;
        foreach ((string name, StringValues values) in context.Request.Headers)
        {
            bytes += sizeof(char) * name.Length;
            foreach (string? value in values)
                bytes += sizeof(char) * (value?.Length ?? 0);
        }
        return bytes;
    }

    private static string MethodOf(string path) => path[(path.LastIndexOf('/') + 1)..];

    // An answer of trailers alone, which come as headers (gRPC over HTTP/2).
    private void Refuse(HttpContext context, FamfsException error)
    {
        // Whoever calls chooses the path.
        string method = MethodOf(context.Request.Path.Value ?? "");
        refusals.Count(V1.Master.Descriptor.FindMethodByName(method) is null ? "a call" : method, error);
        context.Response.ContentType = "application/grpc";
        context.Response.Headers["grpc-status"] = ((int)StatusCode.ResourceExhausted).ToString(CultureInfo.InvariantCulture);
        context.Response.Headers["grpc-message"] = error.Message;
        context.Response.Headers[StatusMap.DetailTrailer] = Convert.ToBase64String(ErrorDetails.Of(error).ToByteArray());
    }
}
