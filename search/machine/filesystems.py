"""Which kind of file system a path is on."""

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
# Of SQLite's locks and its shared memory, each client of these sees its own.
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb3|smbfs|ncpfs|afs|coda|ceph|lustre|gpfs|beegfs\w*|glusterfs|orangefs|pvfs2|panfs|wekafs|ocfs2|gfs2"
    r"|davfs|fuse\.(sshfs|glusterfs|ceph|ceph-fuse|s3fs|gcsfuse|rclone|goofys|mount-s3|juicefs|davfs2?|smbnetfs|curlftpfs"
    r"|lustre|beegfs|seaweedfs|alluxio-fuse|blobfuse2?)"
)


def network_kind(path: Path) -> str | None:
    """The kind of network file system ("nfs4") that a path, which need not exist, is on; None on a local one.

    Where the system does not list its mounts (outside of Linux), every file system passes as local.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = kind_of(path.resolve(), mounts)
    return kind if kind is not None and _NETWORK.fullmatch(kind) else None


def kind_of(path: Path, mounts: str) -> str | None:
    """The kind of file system of an absolute path, by a listing in the format of /proc/mounts."""
    found, depth = None, -1
    for line in mounts.splitlines():
        _, place, kind, *_ = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place))
        # Of two mounts at one place the later one is seen.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind, len(point.parts)
    return found
