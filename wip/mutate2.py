root='/tmp/w/h/sim2mut/'
M='global::Famfs.Core.Mutation.Is("%s")'
def m(name,file,old,new):
    p=root+file; t=open(p).read(); n=t.count(old)
    if n!=1: print(n,'times',name); return
    open(p,'w').write(t.replace(old,new.replace('$$',M%name)))
    open('/tmp/w/h/sim2w/names2','a').write(name+'\n')
open('/tmp/w/h/sim2w/names2','w').close()
R='src/Famfs.Fuse/Replication/'; C='src/Famfs.Master/Changes/'; N='src/Famfs.Core/Log/Native/'
m('u-gone-loss',R+'GoneMounts.cs','is { Evidence: not GoneEvidence.LossAccepted };','is { } found && ($$ || found.Evidence != GoneEvidence.LossAccepted);')
m('u-end-own-line',R+'MountRegistration.cs','if (gone.Count == 0 || Slot is not { } slot)','if (gone.Count == 0 || ($$ && _line is null) || Slot is not { } slot)')
m('u-end-remembered',R+'MountRegistration.cs','if (_end is { } known)\n        {','if (_end is { } known)\n        {\n            if ($$) _end = null;')
m('u-torn-first',R+'MountRegistration.cs','.OrderByDescending(unfinished.Contains)','.OrderByDescending(e => !$$ && unfinished.Contains(e))')
m('u-torn-taken',R+'MountRegistration.cs','index < 0 || used[index].IsUnfinished ||','index < 0 || (used[index].IsUnfinished && !$$) ||')
m('u-unfinished',N+'MountLineTable.cs','IsUnfinished = damaged == 1,','IsUnfinished = damaged == 1 && !$$,')
m('u-unfinished-both',N+'MountLineTable.cs','IsUnfinished = damaged == 1 &&','IsUnfinished = (damaged == 1 || global::Famfs.Core.Mutation.Is("u-unfinished-both")) &&')
m('u-former-counter',N+'MountLineTable.cs','FormerCounter = newest?.Counter ?? 0','FormerCounter = $$ ? 0 : newest?.Counter ?? 0')
m('u-giveup',C+'SpaceReclamation.cs','        return _next > 0;','        return _next > 0 && !$$;')
m('u-giveup-reply',C+'SpaceReclamation.cs','''        Reply = _next;
        return _next''','''        Reply = $$ ? zeroed.Count : _next;
        return _next''')
m('u-lost-tail',R+'MountRegistration.cs','if (verdict == PollVerdict.UpToDate && counted','if (($$ || verdict == PollVerdict.UpToDate) && counted')
