"""Published figures that the data folder allows to compare with: batch scheduling and GPU packing.

Everything is found by what the folder (and its ``cloud`` folder) holds:

- a CSV file with the columns ``trace, start_index, num_jobs, backfill, policy, bounded_slowdown,
  utilization`` lists expected values; every SWF log it names is scheduled and compared;
- ``fgd_published_alloc_<mix>.csv`` beside ``openb_pod_list_<mix>.csv`` and a node list are
  published allocation curves of the inflation experiment.
"""

from __future__ import annotations

from pathlib import Path

from ...simulators.tables import search_folders
from .published_batch import batch_checks
from .published_packing import packing_checks
from .suites import Check


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """All comparisons with published figures that ``data`` allows.

    Raises:
        DataError: no such folder, or a file of expected figures that cannot be read.
    """
    folders = search_folders(data)
    return [*batch_checks(folders), *packing_checks(folders, quick=quick)]
