namespace Grpc.Wire;

/// <summary>Names and values that the gRPC protocol puts in HTTP/2 headers.</summary>
internal static class GrpcHeaders
{
    public const string ContentType = "application/grpc";
    public const string Status = "grpc-status";
    public const string Message = "grpc-message";
    public const string Timeout = "grpc-timeout";
    public const string Encoding = "grpc-encoding";
    public const string AcceptEncoding = "grpc-accept-encoding";
    public const string Identity = "identity";

    private static readonly string[] StatusTexts = [.. Enumerable.Range(0, 17).Select(code => code.ToString(System.Globalization.CultureInfo.InvariantCulture))];

    /// <summary>Decimal text of a status code, without allocating for the seventeen known ones.</summary>
    public static string StatusText(int code) =>
        (uint)code < (uint)StatusTexts.Length ? StatusTexts[code] : code.ToString(System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>
    /// Whether a content type is gRPC's: <c>application/grpc</c>, alone or followed by <c>+format</c> or parameters.
    /// <c>application/grpc-web</c> is another protocol.
    /// </summary>
    public static bool IsGrpcContentType(ReadOnlySpan<char> value) =>
        value.StartsWith(ContentType, StringComparison.OrdinalIgnoreCase) &&
        (value.Length == ContentType.Length || value[ContentType.Length] is '+' or ';' or ' ');

    /// <summary>Whether a header belongs to the protocol, not to the metadata of a call.</summary>
    public static bool IsProtocolHeader(string name)
    {
        if (name.Length == 0 || name[0] == ':')
        {
            return true;
        }

        // Decided by length first: this runs for every header of every call whose metadata is asked for.
        return name.Length switch
        {
            2 => Is(name, "te"),
            4 => Is(name, "host") || Is(name, "date"),
            6 => Is(name, "server"),
            11 => Is(name, Status),
            12 => Is(name, Message) || Is(name, Timeout) || Is(name, "content-type"),
            13 => Is(name, Encoding),
            14 => Is(name, "content-length"),
            20 => Is(name, AcceptEncoding),
            _ => false,
        };

        static bool Is(string name, string known) => name.Equals(known, StringComparison.OrdinalIgnoreCase);
    }
}
