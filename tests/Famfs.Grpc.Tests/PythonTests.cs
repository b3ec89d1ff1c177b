using System.Diagnostics;
using System.Globalization;
using Famfs.Testing.Rpc;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.HealthCheck;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Xunit;
using ServingStatus = Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus;

namespace Famfs.Grpc.Tests;

/// <summary>
/// Against grpcio, whose core is the C implementation of gRPC, in both directions. Its messages are made from the
/// descriptors of our own generated code, so nothing is generated for Python.
/// </summary>
public class PythonTests
{
    private const string Python = "/usr/bin/python3";

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    public async Task Python_client_agrees_with_our_server(Transport transport)
    {
        await RequireGrpcioAsync();
        await using TestServer server = await TestServer.StartAsync(
            transport,
            services: services =>
            {
                services.AddSingleton<HealthServiceImpl>();
                services.AddGrpcReflection();
            },
            map: application =>
            {
                application.MapGrpcService<ScriptedService>();
                application.MapGrpcService<HealthServiceImpl>();
                application.MapGrpcReflectionService();
            });
        server.Services.GetRequiredService<HealthServiceImpl>().SetStatus("s", ServingStatus.Serving);
        TaskCompletionSource entered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource cancelled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnUnary = async (ask, context) =>
        {
            switch (ask.Text)
            {
                case "metadata":
                    await context.WriteResponseHeadersAsync(new Metadata { { "answer-bytes-bin", [0xFE, 0] } });
                    context.ResponseTrailers.Add("trailer-bytes-bin", [1, 2, 3]);
                    return new Answer { Text = $"{context.RequestHeaders.GetValue("ask-text")}/{Convert.ToHexString(context.RequestHeaders.GetValueBytes("ask-bytes-bin")!)}" };
                case "fail":
                    throw new RpcException(new Status(StatusCode.FailedPrecondition, "100 % w\u00fcst \U0001f41f"), new Metadata { { "grpc-status-details-bin", [8, 9] } });
                case "wait":
                    await Task.Delay(Timeout.Infinite, context.CancellationToken);
                    break;
                case "wait for cancellation":
                    context.CancellationToken.Register(cancelled.SetResult);
                    entered.SetResult();
                    await cancelled.Task;
                    break;
            }

            return ScriptedService.Echo(ask);
        };
        Func<Ask, IServerStreamWriter<Answer>, ServerCallContext, Task> counting = server.Service.OnServerStream;
        server.Service.OnServerStream = async (ask, answers, context) =>
        {
            if (ask.Text is "entered" or "cancelled")
            {
                await (ask.Text == "entered" ? entered : cancelled).Task.WaitAsync(TestServer.Patience);
                await answers.WriteAsync(new Answer { Text = ask.Text });
                return;
            }

            await counting(ask, answers, context);
        };

        using TemporaryDescriptors descriptors = new();
        string target = transport == Transport.Unix ? server.Address : new Uri(server.Address).Authority;
        using Process process = Start("client.py", target, descriptors.Path);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();

        Assert.True(process.ExitCode == 0, output + await errors);
        Assert.Equal(13, output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    public async Task Our_client_agrees_with_a_python_server(Transport transport)
    {
        await RequireGrpcioAsync();
        using TemporaryDescriptors descriptors = new();
        string socket = "unix:" + descriptors.Path + ".s";
        using Process process = Start("server.py", transport == Transport.Unix ? socket : "127.0.0.1:0", descriptors.Path);
        try
        {
            string port = await process.StandardOutput.ReadLineAsync().WaitAsync(TestServer.Patience)
                ?? throw new InvalidOperationException(await process.StandardError.ReadToEndAsync());
            using GrpcChannel channel = GrpcChannel.ForAddress(
                transport == Transport.Unix ? socket : $"http://127.0.0.1:{int.Parse(port, CultureInfo.InvariantCulture)}");
            await CallAllAsync(new Scripted.ScriptedClient(channel));
        }
        finally
        {
            process.StandardInput.Close();
            if (!process.WaitForExit(TestServer.Patience))
            {
                process.Kill();
            }
        }
    }

    private static async Task CallAllAsync(Scripted.ScriptedClient client)
    {
        Assert.Equal("hello", (await client.UnaryAsync(new Ask { Text = "hello" }).ResponseAsync.WaitAsync(TestServer.Patience)).Text);

        byte[] data = new byte[2 * 1024 * 1024];
        new Random(3).NextBytes(data);
        Assert.True((await client.UnaryAsync(new Ask { Data = ByteString.CopyFrom(data) }).ResponseAsync.WaitAsync(TestServer.Patience)).Data.Span.SequenceEqual(data));

        using (AsyncClientStreamingCall<Ask, Answer> call = client.ClientStream())
        {
            for (int i = 0; i < 100; i++)
            {
                await call.RequestStream.WriteAsync(new Ask { Text = "x" });
            }

            await call.RequestStream.CompleteAsync();
            Assert.Equal(100, (await call.ResponseAsync.WaitAsync(TestServer.Patience)).Number);
        }

        using (AsyncServerStreamingCall<Answer> call = client.ServerStream(new Ask { Number = 500 }))
        {
            int expected = 0;
            await foreach (Answer answer in call.ResponseStream.ReadAllAsync())
            {
                Assert.Equal(expected++, answer.Number);
            }

            Assert.Equal(500, expected);
        }

        using (AsyncDuplexStreamingCall<Ask, Answer> call = client.Duplex())
        {
            for (int i = 0; i < 50; i++)
            {
                await call.RequestStream.WriteAsync(new Ask { Number = i });
                Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
                Assert.Equal(i, call.ResponseStream.Current.Number);
            }

            await call.RequestStream.WriteAsync(new Ask { Text = "stop" });
            RpcException stopped = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.Equal(new Status(StatusCode.Aborted, "stopped"), stopped.Status);
        }

        using (AsyncUnaryCall<Answer> call = client.UnaryAsync(new Ask { Text = "metadata" }, new Metadata { { "ask-text", "value" }, { "ask-bytes-bin", [0, 255, 1] } }))
        {
            await call.ResponseAsync.WaitAsync(TestServer.Patience);
            Assert.Equal("value", (await call.ResponseHeadersAsync).GetValue("answer-text"));
            Assert.Equal([0, 255, 1], (await call.ResponseHeadersAsync).GetValueBytes("answer-bytes-bin")!);
            Assert.Equal([1, 2, 3], call.GetTrailers().GetValueBytes("trailer-bytes-bin")!);
        }

        RpcException failed = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(new Ask { Text = "fail" }).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(new Status(StatusCode.FailedPrecondition, "100 % w\u00fcst \U0001f41f"), failed.Status);
        Assert.Equal([8, 9], failed.Trailers.GetValueBytes("grpc-status-details-bin")!);

        Answer remaining = await client.UnaryAsync(new Ask { Text = "deadline" }, deadline: DateTime.UtcNow.AddSeconds(1000)).ResponseAsync.WaitAsync(TestServer.Patience);
        Assert.InRange(remaining.Number, 900, 1000);
        RpcException late = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(new Ask { Text = "wait" }, deadline: DateTime.UtcNow.AddMilliseconds(200)).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.DeadlineExceeded, late.StatusCode);
    }

    private static async Task RequireGrpcioAsync()
    {
        Assert.SkipUnless(File.Exists(Python), $"{Python} is not installed.");
        using Process process = Start(null, "-c", "import grpc, google.protobuf");
        string errors = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.SkipUnless(process.ExitCode == 0, $"python3-grpcio is not installed: {errors.Trim().Split('\n')[^1]}");
    }

    private static Process Start(string? script, params string[] arguments)
    {
        ProcessStartInfo start = new(Python) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PYTHONDONTWRITEBYTECODE"] = "1";
        if (script is not null)
        {
            start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "Python", script));
        }

        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    private sealed class TemporaryDescriptors : IDisposable
    {
        private readonly string _directory = Directory.CreateTempSubdirectory("famfs-python-").FullName;

        public TemporaryDescriptors()
        {
            Path = System.IO.Path.Combine(_directory, "d");
            FileDescriptorSet set = new();
            foreach (FileDescriptor file in new[] { TestingReflection.Descriptor, global::Grpc.Health.V1.HealthReflection.Descriptor, global::Grpc.Reflection.V1Alpha.ReflectionReflection.Descriptor })
            {
                set.File.Add(FileDescriptorProto.Parser.ParseFrom(file.SerializedData));
            }

            File.WriteAllBytes(Path, set.ToByteArray());
        }

        public string Path { get; }

        public void Dispose() => Directory.Delete(_directory, recursive: true);
    }
}
