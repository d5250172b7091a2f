"""The chain of records: whatever is torn is told from what was tampered with."""

from __future__ import annotations

import shutil

import pytest
from audit_doubles import BOOT, make_entry, same
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.platform.audit.codec import Event, Recorded, encode_entry, encode_event
from fairlead.platform.audit.reader import Log, domains_in
from fairlead.platform.audit.segments import AuditError, frame_head, segment_name
from fairlead.platform.audit.stream import Stream


def fill(folder, payloads, *, boot=BOOT, limit=2**20, keep=0):
    stream = Stream(folder, "toy", boot=boot, limit=limit, keep=keep)
    stream.context = {"slot": {}}
    for payload in payloads:
        stream.pending.append(payload)
        stream.write(0.0)
        stream.sync()
    stream.close()
    return stream


def event(number):
    return encode_event(Event("tick", "toy", float(number), {"number": number}))


def framed(chain, payload):
    return frame_head(chain, payload)[0] + payload


def numbers(folder):
    """Numbers of the recorded events, faults, notes."""
    log = Log(folder, "toy")
    found = [line.record.detail["number"] for line in log.lines()]
    return found, log.faults, log.notes


def only(folder):
    (path,) = folder.glob("*.log")
    return path


def test_records_come_back_in_order_over_segments_and_runs(tmp_path):
    fill(tmp_path, map(event, range(10)), limit=600)
    fill(tmp_path, map(event, range(10, 15)), boot="11111111")
    found, faults, notes = numbers(tmp_path)
    assert found == list(range(15))
    assert faults == notes == []
    assert len(list(tmp_path.glob("toy-*.log"))) > 3
    assert domains_in(tmp_path) == ("toy",)


def test_entries_come_back_with_their_header(tmp_path):
    entries = [make_entry(index) for index in range(5)]
    fill(tmp_path, [encode_entry(entry, full=True) for entry in entries])
    lines = list(Log(tmp_path, "toy").lines())
    assert all(isinstance(line.record, Recorded) for line in lines)
    assert all(same(a.record.entry, b) for a, b in zip(lines, entries, strict=True))
    assert [line.number for line in lines] == [2, 3, 4, 5, 6]
    assert lines[0].header.boot == BOOT


def test_a_tail_cut_at_each_byte_of_the_last_two_records_is_recovered(tmp_path):
    for name, count in (("base", 3), ("more", 5)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name, map(event, range(count)))
    base, whole = (only(tmp_path / name).read_bytes() for name in ("base", "more"))
    one = (len(whole) - len(base)) // 2
    assert len(base) + 2 * one == len(whole)
    for cut in range(len(base), len(whole) + 1):
        folder = tmp_path / "cut"
        folder.mkdir()
        (folder / segment_name("toy", 1)).write_bytes(whole[:cut])
        kept = 3 + (cut - len(base)) // one
        torn = (cut - len(base)) % one != 0
        found, faults, notes = numbers(folder)
        assert (found, faults, len(notes)) == (list(range(kept)), [], int(torn)), cut
        # The next run goes on from there and says so.
        fill(folder, [event(99)], boot="22222222")
        found, faults, notes = numbers(folder)
        assert (found, faults, len(notes)) == ([*range(kept), 99], [], int(torn)), cut
        shutil.rmtree(folder)


def test_a_cut_anywhere_in_the_only_segment_leaves_the_records_before_it(tmp_path):
    fill(tmp_path, map(event, range(2)))
    path = only(tmp_path)
    whole = path.read_bytes()
    size = len(framed(b"\0" * 32, event(0)))
    header = len(whole) - 2 * size
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        found, faults, notes = numbers(tmp_path)
        if cut < header:  # nothing to go on from, and that is said loudly
            assert (found, len(faults)) == ([], 1)
        else:
            torn = (cut - header) % size != 0
            assert (found, faults) == (list(range((cut - header) // size)), [])
            assert len(notes) == int(torn)


def test_zeros_that_a_file_system_left_behind_count_as_torn(tmp_path):
    fill(tmp_path, map(event, range(3)))
    path = only(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    found, faults, notes = numbers(tmp_path)
    assert (found, faults) == ([0, 1, 2], [])
    assert "zeros" in notes[0]


def test_each_flipped_byte_is_a_fault(tmp_path):
    fill(tmp_path, map(event, range(4)))
    path = only(tmp_path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        found, faults, _ = numbers(tmp_path)
        assert faults, at
        assert found == list(range(len(found)))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_edit_of_any_segment_is_a_fault(data, tmp_path_factory):
    """Bytes changed, taken out or put in, in any of three segments of two runs."""
    folder = tmp_path_factory.mktemp("audit")
    fill(folder, map(event, range(6)), limit=700)
    fill(folder, map(event, range(6, 9)), boot="33333333")
    path = data.draw(st.sampled_from(sorted(folder.glob("*.log"))))
    newest = path.name == max(file.name for file in folder.glob("*.log"))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    size = data.draw(st.integers(1, 40))
    new = data.draw(st.binary(min_size=0, max_size=40))
    edited = content[:at] + new + content[at + size :]
    if edited == content:
        return
    path.write_bytes(edited)
    try:
        found, faults, notes = numbers(folder)
    except AuditError as error:
        faults, notes, found = [str(error)], [], []
    # What happens to the very last record cannot be told from a crash; it is noted all the same.
    assert faults or (newest and notes and found == list(range(8)))
    shutil.rmtree(folder)


def test_a_record_taken_out_swapped_or_put_in_breaks_the_chain(tmp_path):
    fill(tmp_path, map(event, range(5)))
    path = only(tmp_path)
    whole = path.read_bytes()
    size = len(framed(b"\0" * 32, event(0)))
    head = whole[: len(whole) - 5 * size]
    frames = [whole[len(head) + size * index :][:size] for index in range(5)]
    forged = framed(frames[1][8:40], event(7))
    for order in (
        [frames[0], *frames[2:]],
        [frames[0], frames[2], frames[1], *frames[3:]],
        [*frames[:2], forged, *frames[2:]],
        [*frames[:2], frames[1], *frames[2:]],
    ):
        path.write_bytes(head + b"".join(order))
        _, faults, _ = numbers(tmp_path)
        assert len(faults) == 1 and "does not follow" in faults[0]


def test_a_missing_segment_is_a_fault_but_the_deleted_oldest_are_not(tmp_path):
    fill(tmp_path, map(event, range(12)), limit=600)
    paths = sorted(tmp_path.glob("*.log"))
    paths[0].unlink()
    found, faults, notes = numbers(tmp_path)
    assert faults == []
    assert "older ones are not there" in notes[0]
    assert found == list(range(found[0], 12))
    paths[2].unlink()
    _, faults, _ = numbers(tmp_path)
    assert any("is missing" in fault for fault in faults)


def test_old_segments_go_when_there_is_more_than_is_kept(tmp_path):
    fill(tmp_path, map(event, range(40)), limit=600, keep=3)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.log")]
    found, faults, _ = numbers(tmp_path)
    assert sum(sizes) <= 4 * 600 and faults == []
    assert found[-1] == 39 and 0 < len(found) < 20


def test_many_short_runs_do_not_push_the_history_out(tmp_path):
    """A crash loop leaves many small segments; the keep limit counts their size."""
    for run in range(12):
        fill(tmp_path, [event(run)], boot=f"{run:08x}", keep=2)
    assert numbers(tmp_path)[0] == list(range(12))


def test_damage_inside_a_run_stays_a_fault_after_the_next_start(tmp_path):
    fill(tmp_path, map(event, range(5)))
    path = only(tmp_path)
    content = bytearray(path.read_bytes())
    content[-400] ^= 1
    path.write_bytes(content)
    fill(tmp_path, [event(9)], boot="44444444")
    found, faults, _ = numbers(tmp_path)
    assert found[-1] == 9 and len(found) < 6
    assert "was damaged" in faults[0]


def test_a_renamed_segment_is_a_fault(tmp_path):
    fill(tmp_path, map(event, range(2)))
    only(tmp_path).rename(tmp_path / segment_name("other", 1))
    log = Log(tmp_path, "other")
    list(log.lines())
    assert "its header is that of toy-000001.log" in log.faults[0]


@pytest.mark.parametrize("domain", ["../x", "a-b", "", "A", "a/b", "x" * 3 + "\n"])
def test_names_that_are_no_domains_never_become_paths(domain):
    with pytest.raises(AuditError, match="not a name of a domain"):
        segment_name(domain, 1)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AuditError, match="nowhere"):
        Log(tmp_path / "nowhere", "toy")
