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
        string caller = CallerIdentity.Of(context).Name;
        if (!budget.TryBeginCall(caller, out int limit))
        {
            Refuse(context, limit == CallLimits.Calls ? $"the master has {limit} calls under way, the limit" : $"{caller} has {limit} calls under way, the limit of one caller");
            return;
        }
        try
        {
            string path = context.Request.Path.Value ?? "";
            MeteredBody? body = TryMeter(context, path);
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
            budget.EndCall(caller);
        }
    }

    private MeteredBody? TryMeter(HttpContext context, string path)
    {
        // Connections of a server that was not set up by ListenAddresses have none.
        CallBudget.Connection connection = context.Features.Get<CallBudget.Connection>() ?? budget.Open();
        try
        {
            return new(context.Request.BodyReader, connection, path[(path.LastIndexOf('/') + 1)..], path == Bulk ? CallLimits.BulkMessageBytes : CallLimits.MessageBytes, path == Bulk ? 1 : CallLimits.ObjectsPerByte);
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
