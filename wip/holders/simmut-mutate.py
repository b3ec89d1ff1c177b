import sys,re
root='/tmp/w/h/simstage/'
M='global::Famfs.Core.Mutation.Is("%s")'
muts=[]
def m(name,file,old,new,count=1):
    muts.append((name,file,old,new.replace('$$',M%name),count))
open(root+'src/Famfs.Core/Mutation.cs','w').write('''namespace Famfs.Core;
public static class Mutation
{
    private static string s_name = string.Intern(System.Environment.GetEnvironmentVariable("FAMFS_MUTATION") ?? "");
    public static bool Is(string name) => ReferenceEquals(s_name, name);
    public static void Set(string name) => s_name = string.Intern(name);
}
''')
E='src/Famfs.Master/Engine/'; H='src/Famfs.Master/Holders/'; C='src/Famfs.Master/Changes/'; R='src/Famfs.Fuse/Replication/'; O='src/Famfs.Fuse/Operations/'; N='src/Famfs.Core/Log/Native/'; NS='src/Famfs.Core/Namespace/'
# S7
m('s7-checked',E+'MasterEngine.cs','''        if (_batch.Count > 0)
        {
            _writer.Publish(_batch);''','''        if ($$)
        {
            foreach (EngineOperation operation in _inFlight)
                operation.Complete(null);
            _inFlight.Clear();
        }
        if (_batch.Count > 0)
        {
            _writer.Publish(_batch);''')
m('s7-no-record',C+'SpaceReclamation.cs','''            context.Append(RecordType.ZeroingStarted, new ZeroingStarted { TimeNs = context.NowNs, Inode = file.Inode.Value });
''','''            if (!$$)
                context.Append(RecordType.ZeroingStarted, new ZeroingStarted { TimeNs = context.NowNs, Inode = file.Inode.Value });
''')
# S8
m('s8-proof',NS+'ReplayState.cs','''        Tables tables = _tables;
        if (tables.EndsOfZeroing.ContainsKey(term))
            return true;''','''        Tables tables = _tables;
        if ($$ || tables.EndsOfZeroing.ContainsKey(term))
            return true;''')
m('s8-order',E+'MasterEngine.cs','''        _zeroing.Stop();
        foreach''','''        if (!$$)
            _zeroing.Stop();
        foreach''')
m('s8-later-term',NS+'ReplayState.cs','''            if (other.Slot == term.Slot && other > term)
                return true;''','''            if ((other.Slot == term.Slot || $$) && other > term)
                return true;''')
m('s8-host-before',NS+'ReplayState.cs','''all.Sequence.Value > first.Value
            && all.Record''','''(all.Sequence.Value > first.Value || $$)
            && all.Record''')
m('s8-own-term',C+'SpaceReclamation.cs','''            if (isReserved && term == replay.HighestTerm)
            {''','''            if (isReserved && term == replay.HighestTerm && !$$)
            {''')
# S11
m('s11-line-first',R+'MountRegistration.cs','''    public OpenVerdict Admit(InodeNumber inode) => _open ||''','''    public OpenVerdict Admit(InodeNumber inode) => $$ || _open ||''')
m('s11-write-back',N+'MountLineTable.cs','''        _device.WriteBack(offset, copy.Length);
        _device.Fence();''','''        if ($$)
            return;
        _device.WriteBack(offset, copy.Length);
        _device.Fence();''')
m('s11-log-after-line',R+'MountRegistration.cs','''            bool counted = IsCounted;
            PollVerdict verdict;''','''            bool counted = IsCounted;
            if ($$)
                _open = true;
            PollVerdict verdict;''')
m('s11-table-after-record',H+'SpaceReclaimer.cs','''        bool moved = await ZeroAsync().ConfigureAwait(false);
        moved |= await MarkAsync''','''        if ($$)
            _ = mounts.Scan();
        bool moved = await ZeroAsync().ConfigureAwait(false);
        moved |= await MarkAsync''')
m('s11-table-after-record',H+'SpaceReclaimer.cs','''        _ = mounts.Scan();
        Holds holds''','''        if (!$$)
            _ = mounts.Scan();
        Holds holds''')
m('s11-unreadable',H+'MountRegistry.cs','''            Holds holds = new() { Released = _unreadable > 0 ? default : newest };
            if (_unreadable > 0)''','''            Holds holds = new() { Released = _unreadable > 0 && !$$ ? default : newest };
            if (_unreadable > 0 && !$$)''')
m('s11-every-line',H+'MountRegistry.cs','''                if (!view.InTable || view.Ended ||''','''                if (!view.InTable || (view.Streams == 0 && $$) || view.Ended ||''')
m('s11-entry-lock',R+'MountRegistration.cs','''            if (!_table.TryLock(entry, out IDisposable? held))
                continue;
            try
            {
                if (IsFree''','''            IDisposable? held;
            if ($$)
                held = new System.Threading.CancellationTokenSource();
            else if (!_table.TryLock(entry, out held))
                continue;
            try
            {
                if (IsFree''')
m('s11-counted',R+'MountRegistration.cs','''    private bool IsCounted => replica''','''    private bool IsCounted => $$ || replica''')
m('s11-invalidate-table',N+'MountLineTable.cs','''            _device.Invalidate(OffsetOf(first), bytes.Length);''','''            if (!$$)
                _device.Invalidate(OffsetOf(first), bytes.Length);''')
m('s11-still-free',R+'MountRegistration.cs','''if (IsFree(slot, entry, out counter))''','''if (IsFree(slot, entry, out counter) || $$)''')
m('s11-end-twice',R+'MountRegistration.cs','''                    _table.Write(entry.Index, end with { Counter = end.Counter + 1 });''','''                    if (!$$) _table.Write(entry.Index, end with { Counter = end.Counter + 1 });''')
m('s11-end-twice',R+'MountRegistration.cs','''            Write(_line with { Counter = _line.Counter + 1 }); // as EndOlder does''','''            if (!$$) Write(_line with { Counter = _line.Counter + 1 }); // as EndOlder does''')
# S12
m('s12-estale',O+'FuseOperations.Files.cs','''scope, out InodeAttributes attributes) || attributes.Status != InodeStatus.Published)
                return Errno.ESTALE;
            if (!HasContent''','''scope, out InodeAttributes attributes) || (attributes.Status != InodeStatus.Published && !$$))
                return Errno.ESTALE;
            if (!HasContent''')
m('s12-lookup',O+'FuseOperations.Names.cs','''            if (!scope.TryGet(child.Inode, out InodeAttributes attributes) || attributes.Status != InodeStatus.Published)
                continue;''','''            if (!scope.TryGet(child.Inode, out InodeAttributes attributes) || (attributes.Status != InodeStatus.Published && !$$))
                continue;''')
m('s12-entries',R+'NotifyBridge.cs','''        if (_own is null)
            _notifier?.EntryDeleted(''','''        if (_own is null && !$$)
            _notifier?.EntryDeleted(''')
m('s12-enoent',R+'HeldFiles.cs','''                if (_notifier.Release(inode) != InodePresence.Absent || !TryPurge(inode))''','''                if ((_notifier.Release(inode) != InodePresence.Absent && !$$) || !TryPurge(inode))''')
m('s12-enoent-unknown',R+'HeldFiles.cs','''_notifier.Release(inode) != InodePresence.Absent &&''','''!(_notifier.Release(inode) is InodePresence p && (p == InodePresence.Absent || (p == InodePresence.Unknown && $$))) &&''')
m('s12-purge',R+'HeldFiles.cs','''            return _purge(inode);''','''            return $$ || _purge(inode);''')
m('s12-watermark',R+'HeldFiles.cs','''        LogSequence watermark = _acknowledged.Acknowledged.Sequence;''','''        LogSequence watermark = $$ ? new(ulong.MaxValue) : _acknowledged.Acknowledged.Sequence;''')
m('s12-notified',R+'AckGate.cs','''            _lastApplied = position.Sequence;
            if (told)''','''            _lastApplied = position.Sequence;
            if (told || $$)''')
m('s12-exceptions',R+'HeldFiles.cs','''            if (_held.Count == 0)
                return new(watermark, []);''','''            if (_held.Count == 0 || $$)
                return new(watermark, []);''')
m('s12-sixteen',R+'HeldFiles.cs','''                    watermark = new(held.DeletedAt.Value - 1);
                    exceptions''','''                    if ($$)
                        break;
                    watermark = new(held.DeletedAt.Value - 1);
                    exceptions''')
m('s12-named-held',C+'SpaceReclamation.cs','''            else if (!isReserved && _held.Contains(inode))''','''            else if (!isReserved && _held.Contains(inode) && !$$)''')
m('s12-order-statement',R+'HeldFiles.cs','''        lock (_gate)
        {
            if (_held.Count == 0 ||''','''        if ($$)
            watermark = _acknowledged.Acknowledged.Sequence;
        lock (_gate)
        {
            if (_held.Count == 0 ||''')
m('s12-released-back',H+'MountRegistry.cs','''        if (view.LineCounter <= line.Counter)
            view.LineReleased''','''        if (view.LineCounter <= line.Counter && !$$)
            view.LineReleased''')
m('s12-whole-record',R+'HeldFiles.cs','''                    exceptions.RemoveAll(inode''','''                    if (!$$) exceptions.RemoveAll(inode''')
m('s12-stream-held',H+'MountRegistry.cs','''            ReleasedFiles said = new(watermark, held);''','''            ReleasedFiles said = new(watermark, $$ ? [] : held);''')
# S14
m('s14-boot-still',H+'GoneMounts.cs','''{ Evidence: not GoneEvidence.LossAccepted } || clock.GetElapsedTime(_seen[line.Mount].Since) < Lease)''','''{ Evidence: not GoneEvidence.LossAccepted } || (clock.GetElapsedTime(_seen[line.Mount].Since) < Lease && !$$))''')
m('s14-boot-moves',H+'GoneMounts.cs','''&& _seen[other.Mount].Moved && clock''','''&& ($$ || _seen[other.Mount].Moved) && clock''')
m('s14-boot-other',H+'GoneMounts.cs','''other.Boot != line.Boot &&''','''(other.Boot != line.Boot || ($$ && other.Mount != line.Mount)) &&''')
m('s14-lock',R+'MountRegistration.cs','''            if (_table.TryLock(entry.Index, out IDisposable? held))
            {
                using (held)''','''            IDisposable? held;
            if ($$)
                held = new System.Threading.CancellationTokenSource();
            else
                _table.TryLock(entry.Index, out held);
            if (held is not null)
            {
                using (held)''')
m('s14-take-over',R+'MountRegistration.cs','''                    if (!TakeOver())''','''                    if (!$$ && !TakeOver())''')
m('s14-take-over-later',R+'Replica.cs','''        held.TakeOver(_state.NextInode);''','''        if (!$$) held.TakeOver(_state.NextInode);''')
m('s14-take-over-deleted',R+'Replica.cs','''        return PurgeDeleted() is null;''','''        return $$ || PurgeDeleted() is null;''')
m('s14-purge-at-end',R+'Replica.cs','''        if (_state.Devices.All(device => device.Coherent))
            return;
        List''','''        if ($$ || _state.Devices.All(device => device.Coherent))
            return;
        List''')
m('s14-gone-opens',R+'MountRegistration.cs','''            _open = false;
            throw new FamfsException(ErrorReason.HostGone''','''            if ($$)
                goto live;
            _open = false;
            throw new FamfsException(ErrorReason.HostGone''')
m('s14-gone-opens',R+'MountRegistration.cs','''        if (_line is null)
        {
            int? slot = Slot;''','''    live:
        if (_line is null)
        {
            int? slot = Slot;''')
m('s14-opened-at',R+'MountRegistration.cs','''_open ? _openedAt : new(ulong.MaxValue)) is { } end)''','''(_open && !$$) ? _openedAt : new(ulong.MaxValue)) is { } end)''')
m('s14-evidence-of-others',H+'GoneMounts.cs','''        LogSequence replayed = mount.KnownStreams > 0 ?''','''        if ($$ && clock.GetElapsedTime(mount.LastMovedTimestamp) > TimeSpan.FromSeconds(3))
            return GoneEvidence.Operator;
        LogSequence replayed = mount.KnownStreams > 0 ?''')
m('s14-end-of-live',R+'MountRegistration.cs','''is not { State: MountState.Live } line || !gone.Contains(line.Mount))''','''is not { State: MountState.Live } line || (!gone.Contains(line.Mount) && !($$ && line.Mount != mount)))''')
m('s14-older-record',NS+'ReplayState.cs','''out (LogSequence Sequence, GoneRecord Record) all) && replayed.Value < all.Sequence.Value ? all.Record : null;''','''out (LogSequence Sequence, GoneRecord Record) all) && (replayed.Value < all.Sequence.Value || $$) ? all.Record : null;''')
m('s14-loss',H+'MountRegistry.cs','''Gone.Find(view) is { } evidence && evidence != GoneEvidence.LossAccepted)
                    continue;
                holds''','''Gone.Find(view) is { } evidence && (evidence != GoneEvidence.LossAccepted || $$))
                    continue;
                holds''')
m('s14-end-without-death',R+'MountRegistration.cs','''        _open = false;
        if (_line is not null)
        {
            _table = new(pool''','''        _open = false;
        if (_line is not null && !$$)
        {
            _table = new(pool''')
m('s14-goes-back',H+'GoneMounts.cs','''else if (line.Counter > known.Counter)''','''else if (line.Counter > known.Counter || ($$ && line.Counter != known.Counter))''')
m('s14-twin-back',R+'TwinWatch.cs','''&& counter > before)''','''&& (counter > before || ($$ && counter != before)))''')
m('s14-lock-kept',R+'MountRegistration.cs','''                held?.Dispose(); // also when''','''                if (!$$) held?.Dispose(); // also when''')
# S17
m('s17-holders',H+'SpaceReclaimer.cs','''        Holds holds = mounts.FindHolds(new(ulong.MaxValue));''','''        Holds holds = $$ ? new() { Released = new(ulong.MaxValue) } : mounts.FindHolds(new(ulong.MaxValue));''')
m('s17-zero',H+'SpaceZeroing.cs','''                device.Zero(extent.OffsetBytes + done, Math.Min(StepBytes, extent.LengthBytes - done));
            }''','''                if (!$$)
                    device.Zero(extent.OffsetBytes + done, Math.Min(StepBytes, extent.LengthBytes - done));
            }''')
m('s17-fence',H+'SpaceZeroing.cs','''            // Before any record that names it can be stored, by another thread.
            device.Fence();''','''            // Before any record that names it can be stored, by another thread.
            if (!$$)
                device.Fence();''')
m('s17-zero-again',C+'SpaceReclamation.cs','''                ReservedFile file = new(inode, ExtentsOf(context, inode));''','''                ReservedFile file = new(inode, $$ && isReserved ? [] : ExtentsOf(context, inode));''')
m('s17-free-early',NS+'ReplayState.cs','''        Tree.StartZeroing(inode);
''','''        Tree.StartZeroing(inode);
        if ($$)
        {
            int early = CopyExtents(inode, out _);
            _observer?.ExtentsFreed(inode, _extents.AsSpan(0, early));
        }
''')
m('s17-record-before-zeros',H+'SpaceReclaimer.cs','''        _unzeroed.AddRange(found.Files);
''','''        if ($$)
            _ = await engine.RunAsync(new SpaceReturn([.. found.Files.Select(f => f.Inode)]), Caller.Master).ConfigureAwait(false);
        _unzeroed.AddRange(found.Files);
''')
m('s17-given-zeroed-again',H+'SpaceReclaimer.cs','''        _unzeroed.RemoveAll(f => given.Contains(f.Inode));''','''        if (!$$) _unzeroed.RemoveAll(f => given.Contains(f.Inode));''')
m('s17-failed',H+'SpaceReclaimer.cs','''_unzeroed.Where(f => !failed.Contains(f))''','''_unzeroed.Where(f => $$ || !failed.Contains(f))''')
# S18
m('s18-reused',O+'ReusedSpace.cs','''        if (!_any)
            return true;''','''        if (!_any || $$)
            return true;''')
m('s18-write-back',O+'FuseOperations.Files.cs','''                if (!device.Coherent)
                    device.WriteBack(deviceOffset, pieceBytes);''','''                if (!device.Coherent && !$$)
                    device.WriteBack(deviceOffset, pieceBytes);''')
m('s18-read',O+'FuseOperations.Files.cs','''                if (!device.Coherent)
                    device.Invalidate(deviceOffset, pieceBytes);''','''                if (!device.Coherent && !$$)
                    device.Invalidate(deviceOffset, pieceBytes);''',2)
m('s18-famfs-start',R+'Replica.cs','''    public string? PurgeDeleted()
    {''','''    public string? PurgeDeleted()
    {
        if ($$)
            return null;''')
m('s18-refresh-all',O+'ReusedSpace.cs','''    public void RefreshAll(DevicePool pool)
    {''','''    public void RefreshAll(DevicePool pool)
    {
        if ($$)
            return;''')
m('s18-kernel-reused',R+'HeldFiles.cs','''(isHeldByKernel || held!''','''((isHeldByKernel && !$$) || held!''')
# S19
m('s19-inode',NS+'ReplayState.cs','''        int count = CopyExtents(inode, out long bytes);
        Tree.Reclaim(inode);
''','''        int count = CopyExtents(inode, out long bytes);
        Tree.Reclaim(inode);
        if ($$ && NextInode.Value == inode.Value + 1)
            NextInode = inode;
''')
only=set(sys.argv[1:])
texts={}
bad=0
for x in muts:
    name,file,old,new,count=x
    t=texts.setdefault(file,open(root+file).read())
    n=t.count(old)
    if n!=count:
        print('NOT FOUND' if n==0 else f'{n} times',name,file); bad+=1; continue
    texts[file]=t.replace(old,new)
for f,t in texts.items(): open(root+f,'w').write(t)
names=list(dict.fromkeys(x[0] for x in muts))
open('/tmp/w/h/simmut-names','w').write('\n'.join(names)+'\n')
print(len(names),'mutations',bad,'bad')
