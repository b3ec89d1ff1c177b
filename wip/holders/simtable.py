import re,sys
D={ # name: (rule, removed)
's7-no-record':('S7: a record gives space to who zeroes it','`ZeroingStarted`'),
's7-checked':('S7: an answer comes after publishing','the order'),
's8-proof':('S8: a former master is proved ended','the proof'),
's8-own-term':('S8: the own term does not start twice','the comparison of terms (a)'),
's8-order':('S8: zeroing ends before the term','the order'),
's8-later-term':('S8: a later term is of the same slot','the comparison of slots'),
's8-host-before':('S8: a host\'s end is after its term','the comparison'),
's11-line-first':('S11: a line before the first OPEN','the gate'),
's11-log-after-line':('S11: the log is read after the line','the reading'),
's11-table-after-record':('S11: the table is read after the record','the order'),
's11-unreadable':('S11: an unreadable line counts','the count'),
's11-every-line':('S11: each line in use counts','lines without a stream'),
's11-write-back':('S11: the line is in memory','the write-back'),
's11-entry-lock':('S11: an entry is locked on its host','the lock'),
's11-counted':('S11: what ended the host is looked for','the look'),
's11-invalidate-table':('S11: the table is dropped before reading','the drop'),
's11-still-free':('S11: an entry is still free under its lock','the second look'),
's11-end-twice':('S11: the end is in both copies','the second'),
's12-estale':('S12: OPEN of a removed file is ESTALE','the refusal'),
's12-lookup':('S12: a removed file is not found','the comparison'),
's12-entries':('S12: names are dropped in the kernel','the notification'),
's12-enoent':('S12: the kernel has no such inode','the question'),
's12-enoent-unknown':('S12: no answer is no release','the comparison'),
's12-purge':('S12: lines are flushed before a release','the flush'),
's12-watermark':('S12: the watermark is what was acknowledged','the bound'),
's12-notified':('S12: acknowledged is what the kernel knows','the wait (b)'),
's12-exceptions':('S12: held files are named','the names'),
's12-sixteen':('S12: more than a line names go back','the lower watermark'),
's12-named-held':('S12: what is named is not zeroed','the comparison'),
's12-order-statement':('S12: the position is taken first','the order'),
's12-released-back':('S12: an older line tells nothing new','the comparison'),
's12-whole-record':('S12: files of one record stay together','the removal'),
's12-stream-held':('S12: a stream\'s names count','the names'),
's14-boot-still':('S14: the older boot\'s line stood still','the time'),
's14-boot-moves':('S14: the new boot\'s line moves','the comparison'),
's14-boot-other':('S14: it is another boot','the comparison'),
's14-lock':('S14: only a dead daemon\'s line is ended','the lock'),
's14-take-over':('S14: its cache lines are taken over first','the take-over'),
's14-take-over-later':('S14: its older files are flushed later','what remembers them'),
's14-take-over-deleted':('S14: its removed files are flushed','the flush'),
's14-purge-at-end':('S14: a mount flushes before its end','the flush'),
's14-gone-opens':('S14: a mount that is gone opens nothing','the refusal'),
's14-opened-at':('S14: one that was open before is over','the position'),
's14-evidence-of-others':('S14: silence is no proof','three seconds count'),
's14-end-of-live':('S14: only what is proved gone is ended','the question'),
's14-older-record':('S14: a record is about older lines','the comparison'),
's14-loss':('S14: an accepted loss proves nothing','the exception'),
's14-end-without-death':('S14: a mount ends its line','the line'),
's14-goes-back':('S14: damage is no movement','the comparison'),
's14-twin-back':('S14: damage is no twin','the comparison'),
's14-lock-kept':('S14: an error keeps no entry locked','the release'),
's17-holders':('S17: all holders have released','the question'),
's17-zero':('S17: space is zeroed','the zeros'),
's17-fence':('S17: zeros are in memory before the record','the fence'),
's17-zero-again':('S17: after a crash it is zeroed again','the extents'),
's17-free-early':('S17: space is free with the last record','free with the first'),
's17-record-before-zeros':('S17: the record is after the zeros','the order'),
's17-given-zeroed-again':('S17: what was given back is not zeroed','what remembers it'),
's17-failed':('S17: failed zeroing gives nothing back','the comparison'),
's18-reused':('S18: reused space is dropped before OPEN','the drop'),
's18-write-back':('S18: WRITE writes back','the write-back'),
's18-read':('S18: READ drops lines before','the drop'),
's18-famfs-start':('S18: a famfs mount flushes at its start','the flush'),
's18-refresh-all':('S18: a famfs mount drops reused space','the drop'),
's18-kernel-reused':('S18: a kernel\'s own files are held','the hold'),
's19-inode':('S19: an inode number is given once','the number goes back'),
}
rows={}
for f in sys.argv[1:]:
    try: lines=open(f)
    except OSError: continue
    for l in lines:
        c=l.rstrip('\n').split('\t')
        if c[0] in('none',''): continue
        ran=int(c[1].split()[0]); 
        seeds=re.findall(r'seed (\d+): ',c[4]) if c[4]!='-' else []
        r=rows.setdefault(c[0],[0,[],[]]); r[0]+=ran; r[1]+=seeds; r[2].append(c[4])
print('| rule | what was removed | seeds that failed |\n|---|---|---|')
for n,(a,b) in D.items():
    if n in rows:
        r=rows[n]; print(f"| {a} | {b} | {(', '.join(r[1][:3])) or '–'} of {r[0]} |")
print('NOT RUN:',[n for n in D if n not in rows],file=sys.stderr)
