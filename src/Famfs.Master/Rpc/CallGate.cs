using System.Globalization;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Famfs.Master.Rpc;

/// <summary>What every call passes before it is one: the limit of calls, and the meter of what it receives.</summary>
internal sealed class CallGate(CallBudget budget)
{
    private const string Bulk = "/famfs.v1.Master/CreateFiles";

    /// <summary>Runs a call, or refuses it with RESOURCE_EXHAUSTED.</summary>
    public async Task RunAsync(HttpContext context, RequestDelegate next)
    {
        // Connections of a server that was not set up by ListenAddresses have none.
        CallBudget.Connection connection = context.Features.Get<CallBudget.Connection>() ?? budget.Open(CallerIdentity.Of(context).Name);
        if (!connection.TryBeginCall(out int limit))
        {
            string whose = limit == CallLimits.Calls ? "the master has" : $"{CallerIdentity.Of(context).Name} has";
            Refuse(context, $"{whose} {limit} calls under way, the limit");
            return;
        }
        try
        {
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
        finally
        {
            connection.EndCall();
        }
    }

    private static MeteredBody? TryMeter(HttpContext context, CallBudget.Connection connection, string path)
    {
        try
        {
            (int limit, int perByte) = path == Bulk ? (CallLimits.BulkMessageBytes, 1) : (CallLimits.MessageBytes, CallLimits.ObjectsPerByte);
            return new(context.Request.BodyReader, connection, path[(path.LastIndexOf('/') + 1)..], limit, perByte);
        }
        catch (Core.FamfsException error)
        {
            Refuse(context, error.Message);
            return null;
        }
    }

    // An answer of trailers alone, which come as headers (gRPC over HTTP/2).
    private static void Refuse(HttpContext context, string message)
    {
        context.Response.ContentType = "application/grpc";
        context.Response.Headers["grpc-status"] = ((int)StatusCode.ResourceExhausted).ToString(CultureInfo.InvariantCulture);
        context.Response.Headers["grpc-message"] = message;
    }
}
