"""What the system lets a process open: too few files are refused before a run, which would end in odd ways without them."""

from ..job.errors import JobRefused

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

OWN_FILES, RANK_FILES = 64, 16  # of the host, or of a rank, and for each rank that it talks to; with room to spare


def check_open_files(ranks: int) -> None:
    """Ask the system for as many open files as so many ranks need; raise JobRefused if it does not allow them."""
    if resource is None:
        return
    wanted = OWN_FILES + RANK_FILES * ranks
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return
    if most != resource.RLIM_INFINITY and most < wanted:
        raise JobRefused(f"open files: wanted at least {wanted} for {ranks} ranks, got {most}: allow more (ulimit -n {wanted})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))  # the ranks inherit it
