using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Famfs.Testing.Etcd;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Xunit;

namespace Famfs.Grpc.Tests;

/// <summary>Against etcd, whose server is the Go implementation of gRPC.</summary>
public class EtcdTests
{
    private const string Etcd = "/usr/bin/etcd";

    [Fact]
    public async Task Our_client_puts_ranges_and_watches_in_etcd()
    {
        Assert.SkipUnless(File.Exists(Etcd), $"{Etcd} is not installed.");
        string directory = Directory.CreateTempSubdirectory("famfs-etcd-").FullName;
        string client = $"http://127.0.0.1:{FreePort()}";
        string peer = $"http://127.0.0.1:{FreePort()}";
        ProcessStartInfo start = new(Etcd) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in new[]
        {
            "--data-dir", directory, "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", $"default={peer}",
        })
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        try
        {
            using GrpcChannel channel = GrpcChannel.ForAddress(client);
            KV.KVClient kv = new(channel);
            await WaitUntilReadyAsync(kv, process);

            using AsyncDuplexStreamingCall<WatchRequest, WatchResponse> watch = new Watch.WatchClient(channel).Watch();
            await watch.RequestStream.WriteAsync(new WatchRequest { CreateRequest = new WatchCreateRequest { Key = ByteString.CopyFromUtf8("key") } });
            Assert.True(await watch.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.True(watch.ResponseStream.Current.Created);

            PutResponse put = await kv.PutAsync(new PutRequest { Key = ByteString.CopyFromUtf8("key"), Value = ByteString.CopyFromUtf8("value") });
            RangeResponse range = await kv.RangeAsync(new RangeRequest { Key = ByteString.CopyFromUtf8("key") });
            KeyValue found = Assert.Single(range.Kvs);
            Assert.Equal("value", found.Value.ToStringUtf8());
            Assert.Equal(put.Header.Revision, found.ModRevision);

            Assert.True(await watch.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.Equal("value", Assert.Single(watch.ResponseStream.Current.Events).Kv.Value.ToStringUtf8());

            RpcException e = await Assert.ThrowsAsync<RpcException>(() => kv.PutAsync(new PutRequest()).ResponseAsync);
            Assert.Equal(StatusCode.InvalidArgument, e.StatusCode);
            Assert.Contains("key is not provided", e.Status.Detail, StringComparison.Ordinal);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
            await Task.WhenAll(output, errors);
            Directory.Delete(directory, recursive: true);
        }
    }

    private static async Task WaitUntilReadyAsync(KV.KVClient kv, Process process)
    {
        using CancellationTokenSource patience = new(TestServer.Patience);
        while (true)
        {
            try
            {
                await kv.RangeAsync(new RangeRequest { Key = ByteString.CopyFromUtf8("ready") }, cancellationToken: patience.Token);
                return;
            }
            catch (RpcException e) when (e.StatusCode == StatusCode.Unavailable && !process.HasExited)
            {
                await Task.Delay(20, patience.Token);
            }
        }
    }

    private static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
