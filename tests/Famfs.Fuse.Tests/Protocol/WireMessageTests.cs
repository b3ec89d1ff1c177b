using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests.Protocol;

/// <summary>Every wire struct against the documented sizes of fuse.h 7.45, and against gaps.</summary>
public sealed class WireMessageTests
{
    private static readonly (Type Type, int Bytes)[] Messages =
    [
        (typeof(InHeader), 40), // fuse_in_header
        (typeof(OutHeader), 16), // fuse_out_header
        (typeof(NodeAttributes), 88), // fuse_attr
        (typeof(EntryOut), 128), // fuse_entry_out
        (typeof(ForgetIn), 8), // fuse_forget_in
        (typeof(ForgetOne), 16), // fuse_forget_one
        (typeof(BatchForgetIn), 8), // fuse_batch_forget_in
        (typeof(GetAttrIn), 16), // fuse_getattr_in
        (typeof(AttrOut), 104), // fuse_attr_out
        (typeof(SetAttrIn), 88), // fuse_setattr_in
        (typeof(MakeDirectoryIn), 8), // fuse_mkdir_in
        (typeof(CreateIn), 16), // fuse_create_in
        (typeof(CreateOut), 144), // fuse_entry_out, fuse_open_out
        (typeof(RenameIn), 8), // fuse_rename_in
        (typeof(Rename2In), 16), // fuse_rename2_in
        (typeof(SetXattrIn), 8), // fuse_setxattr_in, as of FUSE_COMPAT_SETXATTR_IN_SIZE
        (typeof(StatxIn), 24), // fuse_statx_in
        (typeof(StatxTime), 16), // fuse_sx_time
        (typeof(StatxBody), 256), // fuse_statx
        (typeof(StatxOut), 288), // fuse_statx_out
        (typeof(OpenIn), 8), // fuse_open_in
        (typeof(OpenOut), 16), // fuse_open_out
        (typeof(ReleaseIn), 24), // fuse_release_in
        (typeof(FlushIn), 24), // fuse_flush_in
        (typeof(LockIn), 48), // fuse_lk_in
        (typeof(ReadIn), 40), // fuse_read_in
        (typeof(WriteIn), 40), // fuse_write_in
        (typeof(WriteOut), 8), // fuse_write_out
        (typeof(StatfsOut), 80), // fuse_kstatfs
        (typeof(FsyncIn), 16), // fuse_fsync_in
        (typeof(GetXattrIn), 8), // fuse_getxattr_in
        (typeof(GetXattrOut), 8), // fuse_getxattr_out
        (typeof(AccessIn), 8), // fuse_access_in
        (typeof(InitIn), 64), // fuse_init_in
        (typeof(InitOut), 64), // fuse_init_out
        (typeof(InterruptIn), 8), // fuse_interrupt_in
        (typeof(FallocateIn), 32), // fuse_fallocate_in
        (typeof(DirentHead), 24), // fuse_dirent
        (typeof(DirentPlusHead), 152), // fuse_direntplus
        (typeof(NotifyInvalInodeOut), 24), // fuse_notify_inval_inode_out
        (typeof(NotifyInvalEntryOut), 16), // fuse_notify_inval_entry_out
        (typeof(NotifyDeleteOut), 24), // fuse_notify_delete_out
        (typeof(NotifyPruneOut), 16), // fuse_notify_prune_out
        (typeof(FmapHeader), 32), // fuse_famfs_fmap_header
        (typeof(FmapSimpleExtent), 24), // fuse_famfs_simple_ext
        (typeof(FmapInterleavedExtent), 24), // fuse_famfs_iext
        (typeof(GetFmapIn), 8), // dialect A's GET_FMAP
        (typeof(FmapSizeOut), 4), // the short reply to GET_FMAP
        (typeof(DaxDeviceOut), 280), // fuse_daxdev_out
        (typeof(DaxDeviceName), 256), // fuse_daxdev_out.name
        (typeof(BackingMap), 16), // fuse_backing_map
        (typeof(Reserved14Words), 112), // fuse_statx.__spare2
        (typeof(Reserved6Halves), 24), // fuse_kstatfs.spare
        (typeof(Reserved11Words), 44), // fuse_init_in.unused
        (typeof(Reserved11Halves), 22), // fuse_init_out.unused
    ];

    [Fact]
    public void Every_wire_struct_has_the_size_of_its_c_struct_and_no_gap()
    {
        foreach ((Type type, int bytes) in Messages)
        {
            Assert.True(SizeOf(type) == bytes, $"{type.Name} is {SizeOf(type)} bytes, not {bytes}");
            if (type.GetCustomAttribute<InlineArrayAttribute>() is not null)
                continue;
            int end = 0;
            foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic).OrderBy(f => f.MetadataToken))
            {
                int offset = (int)Marshal.OffsetOf(type, field.Name);
                Assert.True(offset == end, $"{type.Name}.{field.Name} is at {offset}, not {end}");
                end = offset + SizeOf(field.FieldType);
            }
            Assert.True(end == bytes, $"{type.Name} ends at {end}, not {bytes}");
        }
    }

    [Fact]
    public void Every_struct_of_the_protocol_is_in_the_list_above()
    {
        IEnumerable<Type> wire = typeof(InHeader).Assembly.GetTypes().Where(type =>
            type is { Namespace: "Famfs.Fuse.Protocol", IsValueType: true, IsEnum: false, IsNested: false, IsByRefLike: false } && type != typeof(FuseReply));
        Assert.Equal(wire.Select(type => type.Name).Order(), Messages.Select(message => message.Type.Name).Order());
    }

    [Fact]
    public void Fields_the_kernel_reads_are_where_it_reads_them()
    {
        Assert.Equal(36, (int)Marshal.OffsetOf<InHeader>(nameof(InHeader.ExtensionWords)));
        Assert.Equal(40, (int)Marshal.OffsetOf<EntryOut>(nameof(EntryOut.Attributes)));
        Assert.Equal(60, (int)Marshal.OffsetOf<NodeAttributes>(nameof(NodeAttributes.Mode)));
        Assert.Equal(80, (int)Marshal.OffsetOf<NodeAttributes>(nameof(NodeAttributes.BlockSizeBytes)));
        Assert.Equal(28, (int)Marshal.OffsetOf<InitOut>(nameof(InitOut.MaxPages)));
        Assert.Equal(32, (int)Marshal.OffsetOf<InitOut>(nameof(InitOut.Flags2)));
        Assert.Equal(32, (int)Marshal.OffsetOf<StatxBody>(nameof(StatxBody.Inode)));
        Assert.Equal(112, (int)Marshal.OffsetOf<StatxBody>(nameof(StatxBody.ModifyTime)));
        Assert.Equal(128, (int)Marshal.OffsetOf<DirentPlusHead>(nameof(DirentPlusHead.Dirent)));
        Assert.Equal(12, (int)Marshal.OffsetOf<FmapHeader>(nameof(FmapHeader.MessageBytes)));
        Assert.Equal(24, (int)Marshal.OffsetOf<DaxDeviceOut>(nameof(DaxDeviceOut.Name)));
    }

    private static int SizeOf(Type type) =>
        (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;
}
