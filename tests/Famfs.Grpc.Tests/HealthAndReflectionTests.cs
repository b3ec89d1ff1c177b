using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.HealthCheck;
using Grpc.Reflection;
using Grpc.Reflection.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Xunit;
using ServingStatus = Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus;
using V1Alpha = Grpc.Reflection.V1Alpha;

namespace Famfs.Grpc.Tests;

public class HealthAndReflectionTests
{
    [Fact]
    public async Task Health_is_what_was_set()
    {
        await using TestServer server = await StartAsync();
        HealthServiceImpl health = server.Services.GetRequiredService<HealthServiceImpl>();
        Health.HealthClient client = new(server.CreateChannel());

        RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.CheckAsync(new HealthCheckRequest { Service = "s" }).ResponseAsync);
        Assert.Equal(StatusCode.NotFound, e.StatusCode);
        health.SetStatus("s", ServingStatus.Serving);
        Assert.Equal(ServingStatus.Serving, (await client.CheckAsync(new HealthCheckRequest { Service = "s" })).Status);
        health.SetStatus("s", ServingStatus.NotServing);
        Assert.Equal(ServingStatus.NotServing, (await client.CheckAsync(new HealthCheckRequest { Service = "s" })).Status);
        health.ClearAll();
        await Assert.ThrowsAsync<RpcException>(() => client.CheckAsync(new HealthCheckRequest { Service = "s" }).ResponseAsync);
    }

    [Fact]
    public async Task Watch_sends_the_state_and_every_change()
    {
        await using TestServer server = await StartAsync();
        HealthServiceImpl health = server.Services.GetRequiredService<HealthServiceImpl>();
        using AsyncServerStreamingCall<HealthCheckResponse> watch = new Health.HealthClient(server.CreateChannel()).Watch(new HealthCheckRequest { Service = "s" });

        Assert.Equal(ServingStatus.ServiceUnknown, await NextAsync());
        health.SetStatus("s", ServingStatus.Serving);
        Assert.Equal(ServingStatus.Serving, await NextAsync());
        health.SetStatus("s", ServingStatus.Serving);
        health.SetStatus("other", ServingStatus.NotServing);
        health.SetStatus("s", ServingStatus.NotServing);
        Assert.Equal(ServingStatus.NotServing, await NextAsync());
        health.ClearStatus("s");
        Assert.Equal(ServingStatus.ServiceUnknown, await NextAsync());

        async Task<ServingStatus> NextAsync()
        {
            Assert.True(await watch.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            return watch.ResponseStream.Current.Status;
        }
    }

    [Fact]
    public async Task Slow_watcher_gets_the_last_state()
    {
        await using TestServer server = await StartAsync();
        HealthServiceImpl health = server.Services.GetRequiredService<HealthServiceImpl>();
        using AsyncServerStreamingCall<HealthCheckResponse> watch = new Health.HealthClient(server.CreateChannel()).Watch(new HealthCheckRequest { Service = "s" });
        Assert.True(await watch.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        for (int i = 0; i < 1000; i++)
        {
            health.SetStatus("s", i % 2 == 0 ? ServingStatus.Serving : ServingStatus.NotServing);
        }

        health.SetStatus("s", ServingStatus.Unknown);
        do
        {
            Assert.True(await watch.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        }
        while (watch.ResponseStream.Current.Status != ServingStatus.Unknown);
    }

    [Fact]
    public async Task Reflection_lists_the_mapped_services()
    {
        await using TestServer server = await StartAsync();
        ServerReflectionResponse response = await AskAsync(server, new ServerReflectionRequest { ListServices = string.Empty });
        Assert.Equal(
            ["famfs.grpc.testing.Scripted", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"],
            response.ListServicesResponse.Service.Select(service => service.Name).Order());
    }

    [Theory]
    [InlineData("famfs.grpc.testing.Scripted")]
    [InlineData("famfs.grpc.testing.Scripted.Duplex")]
    [InlineData("famfs.grpc.testing.Ask")]
    [InlineData("famfs.grpc.testing.Ask.text")]
    public async Task Reflection_finds_files_by_symbol(string symbol)
    {
        await using TestServer server = await StartAsync();
        ServerReflectionResponse response = await AskAsync(server, new ServerReflectionRequest { FileContainingSymbol = symbol });
        FileDescriptorProto file = FileDescriptorProto.Parser.ParseFrom(Assert.Single(response.FileDescriptorResponse.FileDescriptorProto));
        Assert.Equal("testing.proto", file.Name);
        Assert.Equal("Scripted", Assert.Single(file.Service).Name);
    }

    [Fact]
    public async Task Reflection_finds_files_by_name_and_enum_values_by_symbol()
    {
        await using TestServer server = await StartAsync();
        ServerReflectionResponse byName = await AskAsync(server, new ServerReflectionRequest { FileByFilename = "grpc/health/v1/health.proto" });
        Assert.Single(byName.FileDescriptorResponse.FileDescriptorProto);
        ServerReflectionResponse byValue = await AskAsync(server, new ServerReflectionRequest { FileContainingSymbol = "grpc.health.v1.HealthCheckResponse.ServingStatus" });
        Assert.Equal(byName.FileDescriptorResponse, byValue.FileDescriptorResponse);
    }

    [Fact]
    public async Task Reflection_answers_what_it_does_not_know_with_an_error_and_goes_on()
    {
        await using TestServer server = await StartAsync();
        using AsyncDuplexStreamingCall<ServerReflectionRequest, ServerReflectionResponse> call = new ServerReflection.ServerReflectionClient(server.CreateChannel()).ServerReflectionInfo();
        ServerReflectionRequest[] requests =
        [
            new() { FileByFilename = "no.proto" },
            new() { FileContainingSymbol = "no.Symbol" },
            new() { FileContainingExtension = new ExtensionRequest { ContainingType = "famfs.grpc.testing.Ask", ExtensionNumber = 5 } },
            new() { AllExtensionNumbersOfType = "no.Type" },
            new(),
        ];
        int[] codes = [5, 5, 5, 5, 3];
        for (int i = 0; i < requests.Length; i++)
        {
            await call.RequestStream.WriteAsync(requests[i]);
            Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.Equal(codes[i], call.ResponseStream.Current.ErrorResponse.ErrorCode);
            Assert.Equal(requests[i], call.ResponseStream.Current.OriginalRequest);
        }

        await call.RequestStream.WriteAsync(new ServerReflectionRequest { AllExtensionNumbersOfType = "famfs.grpc.testing.Ask" });
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Empty(call.ResponseStream.Current.AllExtensionNumbersResponse.ExtensionNumber);
    }

    [Fact]
    public async Task Reflection_sends_every_imported_file_once()
    {
        FileDescriptor importing = Google.Protobuf.WellKnownTypes.ApiReflection.Descriptor;
        await using TestServer server = await TestServer.StartAsync(
            services: services =>
            {
                services.AddSingleton(new ReflectionV1ServiceImpl([], SymbolRegistry.FromFiles([importing])));
                services.AddGrpcReflection();
            },
            map: application => application.MapGrpcReflectionService());
        ServerReflectionResponse response = await AskAsync(server, new ServerReflectionRequest { FileContainingSymbol = "google.protobuf.Api" });
        Assert.Equal(
            ["google/protobuf/api.proto", "google/protobuf/source_context.proto", "google/protobuf/type.proto", "google/protobuf/any.proto"],
            response.FileDescriptorResponse.FileDescriptorProto.Select(file => FileDescriptorProto.Parser.ParseFrom(file).Name));
    }

    [Fact]
    public async Task Reflection_answers_version_1alpha_the_same()
    {
        await using TestServer server = await StartAsync();
        using AsyncDuplexStreamingCall<V1Alpha.ServerReflectionRequest, V1Alpha.ServerReflectionResponse> call =
            new V1Alpha.ServerReflection.ServerReflectionClient(server.CreateChannel()).ServerReflectionInfo();
        await call.RequestStream.WriteAsync(new V1Alpha.ServerReflectionRequest { ListServices = "*" });
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(4, call.ResponseStream.Current.ListServicesResponse.Service.Count);
    }

    private static Task<TestServer> StartAsync() => TestServer.StartAsync(
        services: services =>
        {
            services.AddSingleton<HealthServiceImpl>();
            services.AddGrpcReflection();
        },
        map: application =>
        {
            application.MapGrpcService<ScriptedService>();
            application.MapGrpcReflectionService();
            application.MapGrpcService<HealthServiceImpl>();
        });

    private static async Task<ServerReflectionResponse> AskAsync(TestServer server, ServerReflectionRequest request)
    {
        using AsyncDuplexStreamingCall<ServerReflectionRequest, ServerReflectionResponse> call = new ServerReflection.ServerReflectionClient(server.CreateChannel()).ServerReflectionInfo();
        await call.RequestStream.WriteAsync(request);
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        ServerReflectionResponse response = call.ResponseStream.Current;
        await call.RequestStream.CompleteAsync();
        Assert.False(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        return response;
    }
}
