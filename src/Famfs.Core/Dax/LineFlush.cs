using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Famfs.Core.Interop;

namespace Famfs.Core.Dax;

/// <summary>Writes back and drops cache lines of this host. .NET has no intrinsic for CLWB, CLFLUSHOPT or
/// CLFLUSH, so 14 bytes of machine code do it, in a page that is never writable and executable at once.
/// <para>x86-64 only. Where executable pages are forbidden, libpmem does it when it can be loaded and its
/// flush also drops the line (no CLWB on this processor, or PMEM_NO_CLWB=1 in the environment this
/// process was started with; otherwise <see cref="Invalidate"/> would be a lie). On arm64 devices must be
/// coherent: creating one says so.</para>
/// <para>The lines are touched raw: the caller has made sure that their pages are reachable.</para></summary>
internal sealed unsafe class LineFlush : IDisposable
{
    private readonly MemoryMapping? _code;
    private readonly delegate* unmanaged<nint, nint, void> _writeBack;
    private readonly delegate* unmanaged<nint, nint, void> _invalidate;
    private readonly delegate* unmanaged<nint, nuint, void> _pmemFlush;

    private LineFlush(MemoryMapping code, int writeBackOffset, int invalidateOffset, string name)
    {
        _code = code;
        _writeBack = (delegate* unmanaged<nint, nint, void>)(code.Address + writeBackOffset);
        _invalidate = (delegate* unmanaged<nint, nint, void>)(code.Address + invalidateOffset);
        Name = name;
    }

    // The library stays loaded until the process ends: a flush may be running in it at any time.
    private LineFlush(nint pmemFlush)
    {
        _pmemFlush = (delegate* unmanaged<nint, nuint, void>)pmemFlush;
        Name = "libpmem";
    }

    /// <summary>What does it: "clwb", "clflushopt", "clflush" or "libpmem".</summary>
    public string Name { get; }

    /// <summary>False with a reason, one clause, where lines cannot be flushed from user space.</summary>
    public static bool TryCreate(out LineFlush? flush, out string reason) =>
        TryCreate(DetectBest(), allowCode: true, out flush, out reason);

    /// <summary>Instructions this processor has, best first: "clwb", "clflushopt", "clflush"; empty on a
    /// processor without a usable one.</summary>
    public static string[] Detect()
    {
        if (!X86Base.X64.IsSupported)
            return [];
        var (_, ebx, _, edx) = X86Base.CpuId(1, 0);
        const int CLFSH = 1 << 19;
        if ((edx & CLFSH) == 0 || ((ebx >> 8) & 0xFF) * 8 != DaxDevice.LineBytes)
            return [];
        var (highest, _, _, _) = X86Base.CpuId(0, 0);
        int features = highest >= 7 ? X86Base.CpuId(7, 0).Ebx : 0;
        var found = new List<string>();
        if ((features & (1 << 24)) != 0)
            found.Add("clwb");
        if ((features & (1 << 23)) != 0)
            found.Add("clflushopt");
        found.Add("clflush");
        return [.. found];
    }

    private static string DetectBest() => Detect() is [var best, ..] ? best : "";

    /// <summary>As <see cref="TryCreate(out LineFlush?, out string)"/> with a given write-back instruction;
    /// <paramref name="allowCode"/> false takes the way of a system that forbids executable pages.</summary>
    internal static bool TryCreate(string instruction, bool allowCode, out LineFlush? flush, out string reason)
    {
        flush = null;
        if (instruction.Length == 0)
        {
            reason = "this processor has no cache-line flush that famfs knows (x86-64 with 64-byte lines is needed)";
            return false;
        }

        int errno = Errno.EACCES;
        MemoryMapping? page = null;
        if (allowCode)
        {
            byte[] code = new byte[128];
            Assemble(instruction).CopyTo(code, 0);
            // What CLWB writes back may stay in the cache, so dropping a line needs one of the other two.
            Assemble(instruction == "clwb" ? DetectEvicting() : instruction).CopyTo(code, 64);
            page = MemoryMapping.TryMapCode(code, out errno);
        }

        if (page is not null)
        {
            reason = "";
            flush = new LineFlush(page, 0, 64, instruction);
            return true;
        }

        bool evicts = instruction != "clwb" || Environment.GetEnvironmentVariable("PMEM_NO_CLWB") == "1";
        if (!NativeLibrary.TryLoad("libpmem.so.1", out nint library))
        {
            reason = $"executable pages are forbidden here ({Errno.Describe(errno)}) and libpmem.so.1 cannot be loaded";
            return false;
        }

        if (!evicts || !NativeLibrary.TryGetExport(library, "pmem_flush", out nint pmemFlush))
        {
            NativeLibrary.Free(library);
            reason = $"executable pages are forbidden here ({Errno.Describe(errno)}) and libpmem would keep flushed lines: start with PMEM_NO_CLWB=1 in the environment";
            return false;
        }

        reason = "";
        flush = new LineFlush(pmemFlush);
        return true;
    }

    /// <summary>Starts the write-back of the lines that [start, start + length) touches. Complete after a
    /// fence.</summary>
    public void WriteBack(nint start, long length) => Run(_writeBack, start, length);

    /// <summary>Writes back and drops the lines that [start, start + length) touches. Complete after a
    /// full fence: SFENCE would not order later loads.</summary>
    public void Invalidate(nint start, long length) => Run(_invalidate, start, length);

    public void Dispose() => _code?.Dispose();

    private static string DetectEvicting() => Detect().Contains("clflushopt") ? "clflushopt" : "clflush";

    /// <summary>The machine code that flushes a range with one instruction.</summary>
    internal static byte[] Assemble(string instruction)
    {
        // void flush(nint first /* rdi, multiple of 64 */, nint end /* rsi, > first */), System V ABI.
        // The 3E before CLFLUSH is a prefix without effect that keeps the three the same length.
        byte[] flush = instruction switch
        {
            "clwb" => [0x66, 0x0F, 0xAE, 0x37],          // clwb [rdi]
            "clflushopt" => [0x66, 0x0F, 0xAE, 0x3F],    // clflushopt [rdi]
            "clflush" => [0x3E, 0x0F, 0xAE, 0x3F],       // clflush [rdi]
            _ => throw new ArgumentOutOfRangeException(nameof(instruction), instruction, "not a flush instruction"),
        };
        return
        [
            .. flush,
            0x48, 0x83, 0xC7, 0x40,                      // add rdi, 64
            0x48, 0x39, 0xF7,                            // cmp rdi, rsi
            0x72, 0xF3,                                  // jb -13, the flush
            0xC3,                                        // ret
        ];
    }

    private void Run(delegate* unmanaged<nint, nint, void> code, nint start, long length)
    {
        if (length <= 0)
            return;
        nint line = start & ~(nint)(DaxDevice.LineBytes - 1);
        nint end = (nint)((start + (nint)length + DaxDevice.LineBytes - 1) & ~(nint)(DaxDevice.LineBytes - 1));
        if (_code is null)
        {
            _pmemFlush(line, (nuint)(end - line));
            return;
        }

        bool held = false;
        try
        {
            _code.DangerousAddRef(ref held);
            code(line, end);
        }
        finally
        {
            if (held)
                _code.DangerousRelease();
        }
    }
}
