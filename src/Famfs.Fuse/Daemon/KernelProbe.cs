using System.Globalization;
using System.Text;
using System.Text.Json;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Memory;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// <c>famfsd --probe [DEVICE…]</c>: asks the kernel what it speaks, by a private mount that ends at once, and whether it would
/// take each device (bound to fsdev_dax) now. One JSON object on stdout:
/// <code>
/// { "fuse_minor": 46, "offered": "0x…", "dialect": "B", "devices": [ { "path": "/dev/dax0.0", "cause": "" } ] }
/// { "error": "…" }                                                  when there is no talking to the kernel
/// </code>
/// A device whose cause is empty would be taken.
/// </summary>
internal static class KernelProbe
{
    /// <summary>First word of the command line.</summary>
    public const string Option = "--probe";

    /// <summary>Asks and prints; gives the exit status.</summary>
    public static int Run(IReadOnlyList<string> devices, TextWriter output)
    {
        using MemoryStream stream = new();
        int status = 0;
        using (Utf8JsonWriter json = new(stream))
        {
            json.WriteStartObject();
            try
            {
                Negotiated negotiated = AskKernel();
                json.WriteNumber("fuse_minor", negotiated.KernelMinor);
                json.WriteString("offered", string.Create(CultureInfo.InvariantCulture, $"0x{negotiated.Offered:x}"));
                json.WriteString("dialect", negotiated.Dialect.Name);
                json.WriteStartArray("devices");
                foreach (string device in devices)
                {
                    json.WriteStartObject();
                    json.WriteString("path", device);
                    json.WriteString("cause", TryTake(device));
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }
            catch (Exception error) when (error is IOException or NotSupportedException or UnauthorizedAccessException)
            {
                json.WriteString("error", error.Message);
                status = 1;
            }
            json.WriteEndObject();
        }
        output.WriteLine(Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length));
        return status;
    }

    private static Negotiated AskKernel()
    {
        using InodeTree tree = new(default);
        tree.MakeRoot(InodeNumber.Root, 0, 0, 0, 0);
        var nothing = new Nothing();
        using PrivateMount mount = PrivateMount.Start(new DialectWish(null, WantsFmaps: true), null, new OperationDependencies(tree, nothing, nothing, nothing, nothing));
        return mount.Negotiated;
    }

    private static string TryTake(string device)
    {
        try
        {
            using KernelHeldDevices held = KernelHeldDevices.Open([device], required: 0, null, null);
            return held.FirstCause;
        }
        catch (Exception error) when (error is FamfsException or IOException or NotSupportedException)
        {
            return error.Message;
        }
    }

    /// <summary>A mount in which there is nothing.</summary>
    private sealed class Nothing : IDeviceResolver, IOpenGate, ICapacity, IMountDescription
    {
        public PoolCapacity Capacity => default;

        public Core.Dax.DaxDevice? Resolve(DeviceIndex index) => null;

        public OpenVerdict Admit(InodeNumber inode) => OpenVerdict.Open;

        public bool TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes)
        {
            bytes = 0;
            return false;
        }
    }
}
