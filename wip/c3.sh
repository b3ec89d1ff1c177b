/tmp/w/h/sim2w/build-mut Famfs.Fuse.Tests Famfs.Master.Tests Famfs.Core.Tests
cd /tmp/w/h/sim2mut/tests
: > /tmp/w/h/sim2w/unit.out
for n in "" $(cat /tmp/w/h/sim2w/names2) s11-counted s14-opened-at s14-take-over s17-fence s17-given-zeroed-again; do
  for t in "Famfs.Fuse.Tests -class Famfs.Fuse.Tests.Replication.MountRegistrationTests -class Famfs.Fuse.Tests.Replication.GoneMountsTests -class Famfs.Fuse.Tests.Replication.ReplicaTests -class Famfs.Fuse.Tests.Replication.OlderMountsLinesTests" "Famfs.Master.Tests -class Famfs.Master.Tests.Changes.SpaceReclamationTests -class Famfs.Master.Tests.Holders.SpaceReclaimerTests" "Famfs.Core.Tests -class Famfs.Core.Tests.Log.MountLineTableTests"; do
    set -- $t; p=$1; shift
    FAMFS_MUTATION=$n timeout 120 $p/bin/Release/net10.0/$p "$@" -noColor 2>&1 | grep -E "\[FAIL\]|Total:" | sed "s/^ */$n\t/" >> /tmp/w/h/sim2w/unit.out
  done
done
