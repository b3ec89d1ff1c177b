using System.Buffers.Binary;
using System.Net;
using System.Net.Http.Headers;

namespace Famfs.Grpc.Tests;

/// <summary>Requests to the scripted service made of bytes.</summary>
internal static class RawRequest
{
    /// <summary>A message behind its prefix.</summary>
    public static byte[] Frame(ReadOnlySpan<byte> message, byte flag = 0)
    {
        byte[] frame = new byte[5 + message.Length];
        frame[0] = flag;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), message.Length);
        message.CopyTo(frame.AsSpan(5));
        return frame;
    }

    public static HttpRequestMessage Create(string method, byte[] body, string? contentType = "application/grpc")
    {
        ByteArrayContent content = new(body);
        if (contentType is not null)
        {
            content.Headers.ContentType = MediaTypeHeaderValue.Parse(contentType);
        }

        return new HttpRequestMessage(HttpMethod.Post, $"/famfs.grpc.testing.Scripted/{method}")
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = content,
        };
    }

    /// <summary>grpc-status from the trailers, or from the headers of a trailers-only reply.</summary>
    public static async Task<string?> StatusAsync(HttpResponseMessage response)
    {
        await response.Content.ReadAsByteArrayAsync();
        return response.TrailingHeaders.TryGetValues("grpc-status", out IEnumerable<string>? values) || response.Headers.TryGetValues("grpc-status", out values)
            ? string.Join(",", values)
            : null;
    }
}
