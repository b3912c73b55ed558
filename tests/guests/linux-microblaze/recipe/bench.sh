t() { s=$(cut -d' ' -f1 /proc/uptime); "$@"; e=$(cut -d' ' -f1 /proc/uptime); echo "bench $LBL: guest-s $(awk "BEGIN{print $e-$s}")"; }
LBL=md5-16M   t sh -c 'dd if=/dev/zero bs=65536 count=256 2>/dev/null | md5sum'
LBL=sha256-8M t sh -c 'dd if=/dev/zero bs=65536 count=128 2>/dev/null | sha256sum'
LBL=awk-200k  t awk 'BEGIN{for(i=0;i<200000;i++){s+=i*1.5;x[i%97]=s} print s}'
LBL=sh-loop   t sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $i'
LBL=fork-100  t sh -c 'i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done'
LBL=gzip-2M   t sh -c 'seq 1 300000 | gzip -c | md5sum'
