"""Importers: what they read from real and hand-made files, and how they refuse bad ones."""

import gzip
import pickle

import numpy as np
import pytest

from fairlead.simulators.cloud.azure import read_azure_llm
from fairlead.simulators.cloud.batch import batch_jobs
from fairlead.simulators.cloud.openb import read_openb_nodes, read_openb_pods
from fairlead.simulators.cloud.swf import FIELDS, read_swf
from fairlead.simulators.errors import DataError
from fairlead.simulators.tables import data_folder, locate, read_table


def job(number=1, submit=0, run=10, processors=4, *, requested=-1, estimate=-1):
    values = [number, submit, -1, run, processors, -1, -1, requested, estimate, *[-1] * 9]
    return " ".join(str(value) for value in values)


NODES = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P100\nb,32000,131072,0,\n"
POD_HEADER = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
    "creation_time,deletion_time,scheduled_time\n"
)
PODS = (
    POD_HEADER
    + "p,6000,1024,1,460,,LS,Running,10,110,20\nq,1000,10,2,1000,P100|T4,BE,Failed,0,5,\n"
)
LLM = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)


def write(folder, name, text):
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def refused(reader, path, *parts):
    """The reader raises a DataError whose message has all ``parts``."""
    with pytest.raises(DataError) as caught:
        reader(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    return caught.value


def test_swf_reads_fields_comments_and_header(tmp_path):
    text = f"; MaxProcs: 128\n;Note: a\n;Note: b\n\n{job(3, 7)}\n  {job(4, 9, 2.5)}\n"
    log = read_swf(write(tmp_path, "log.swf", text))
    assert len(FIELDS) == 18 and log.jobs == 2 and log.processors == 128
    assert log.header["Note"] == "a\nb"
    assert log.job_number.tolist() == [3, 4] and log.line.tolist() == [5, 6]
    assert log.run_time.tolist() == [10.0, 2.5] and log.allocated_processors.dtype == np.int64
    assert log.think_time.tolist() == [-1.0, -1.0]


def test_gz_is_transparent_and_equal(tmp_path):
    text = f"{job(1)}\n{job(2, 5)}\n"
    plain = read_swf(write(tmp_path, "log.swf", text))
    packed = read_swf(write(tmp_path, "log.swf.gz", text))
    assert np.array_equal(plain.submit_time, packed.submit_time)
    assert read_openb_nodes(write(tmp_path, "n.csv.gz", NODES)).name == ("a", "b")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("1 2 3", ("line 2", "3 fields", "18 fields are expected")),
        (job() + " 5", ("line 2", "19 fields")),
        (job(run="x"), ("line 2", "4 (run_time)", "'x'", "finite number")),
        (job(run="nan"), ("line 2", "4 (run_time)", "'nan'")),
        (job(submit="inf"), ("line 2", "2 (submit_time)", "'inf'")),
        (job(run="1_0"), ("line 2", "4 (run_time)", "'1_0'")),
        (job(processors=2.5), ("line 2", "5 (allocated_processors)", "2.5", "whole number")),
        (job(submit=-1), ("line 2", "2 (submit_time)", "-1")),
        (job(run=-2), ("line 2", "4 (run_time)", "-2", "at least -1")),
    ],
)
def test_swf_errors_name_line_and_field(tmp_path, line, parts):
    refused(read_swf, write(tmp_path, "bad.swf", f"; Version: 2\n{line}\n"), *parts)


def test_swf_without_jobs_is_refused(tmp_path):
    refused(read_swf, write(tmp_path, "empty.swf", "; Version: 2\n"), "no job lines")


def test_truncated_and_damaged_gz_are_refused(tmp_path):
    path = write(tmp_path, "log.swf.gz", "\n".join(job(i, i) for i in range(1, 500)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(read_swf, path, "damaged or truncated gzip")
    path.write_bytes(whole[:30] + bytes(40) + whole[70:])
    refused(read_swf, path, "damaged or truncated gzip")
    path.write_text("plain")
    refused(read_swf, path, "not a gzip stream")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "log.swf"
    path.write_bytes(b"\xff\xfe1 2 3")
    refused(read_swf, path, "UTF-8")
    refused(read_swf, tmp_path / "absent.swf", "No such file")


def test_batch_jobs_follow_the_published_reading(tmp_path):
    lines = [
        job(2, 5, run=-1, processors=3, requested=8),
        job(1, 4, run=20, processors=6, estimate=50),
        job(3, 9, run=0),
    ]
    log = read_swf(write(tmp_path, "log.swf", "\n".join(lines)))
    jobs = batch_jobs(log, processors=8)
    assert jobs.number.tolist() == [1, 2] and jobs.submit.tolist() == [4.0, 5.0]
    assert jobs.run.tolist() == [20.0, 10.0] and jobs.request.tolist() == [50.0, 10.0]
    assert jobs.processors.tolist() == [6, 8]


@pytest.mark.parametrize(
    ("lines", "processors", "parts"),
    [
        ([job(1, processors=9)], 8, ("line 1", "processors", "9", "at most the cluster's 8")),
        ([job(1), job(2, processors=-1)], 8, ("line 2", "processors", "at least 1")),
        ([job(1, 9), job(2, 5)], 8, ("line 2", "submit_time", "5")),
        ([job(1, run=0)], 8, ("no job with a run time",)),
    ],
)
def test_batch_jobs_refuse_what_cannot_run(tmp_path, lines, processors, parts):
    log = read_swf(write(tmp_path, "log.swf", "\n".join(lines)))
    with pytest.raises(DataError) as caught:
        batch_jobs(log, processors=processors)
    for part in parts:
        assert part in str(caught.value)


def test_openb_nodes_and_pods(tmp_path):
    nodes = read_openb_nodes(write(tmp_path, "n.csv", NODES))
    assert nodes.models == ("P100",) and nodes.model.tolist() == [0, -1]
    assert nodes.gpus.tolist() == [2, 0] and nodes.cpu_milli.tolist() == [64000, 32000]
    pods = read_openb_pods(write(tmp_path, "p.csv", PODS))
    assert pods.total_gpu_milli.tolist() == [460, 2000] and pods.phase == ("Running", "Failed")
    assert pods.run_time[0] == 90.0 and np.isnan(pods.run_time[1])
    accepts = pods.accepts(("A10", "P100", "T4"))
    assert accepts.tolist() == [[True, True, True], [False, True, True]]


def test_openb_pods_without_times(tmp_path):
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,0,0\n"
    pods = read_openb_pods(write(tmp_path, "p.csv", text))
    assert pods.gpu_spec == ("",) and np.isnan(pods.created[0]) and np.isnan(pods.run_time[0])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sn,cpu_milli,memory_mib,gpu\na,1,1,0\n", ("line 1", "model", "required")),
        (NODES.replace("2,P100", "2,"), ("line 2", "model", "GPU model")),
        (NODES.replace("64000", "many"), ("line 2", "cpu_milli", "'many'", "whole number")),
        (NODES.replace("64000", "0"), ("line 2", "cpu_milli", "'0'", "at least 1")),
        (NODES.replace("b,32000", "a,32000"), ("line 3", "sn", "'a'", "only once")),
        (NODES.replace("b,32000", ",32000"), ("line 3", "sn", "a name")),
        (NODES[:-9], ("line 3", "3 cells", "5 cells are expected")),
        (NODES.splitlines()[0], ("no rows",)),
        ('sn,cpu_milli,memory_mib,gpu,model\n"a,1\n', ("not valid CSV",)),
    ],
)
def test_openb_node_errors(tmp_path, text, parts):
    refused(read_openb_nodes, write(tmp_path, "n.csv", text), *parts)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("1,460", "1,1460", ("line 2", "gpu_milli", "'1460'", "from 0 to 1000")),
        ("1,460", "1,0", ("line 2", "gpu_milli", "1 to 1000")),
        ("2,1000", "2,500", ("line 3", "gpu_milli", "1000 with several GPUs")),
        ("1,460", "-1,460", ("line 2", "num_gpu", "'-1'")),
        ("10,110,20", "10,nan,20", ("line 2", "deletion_time", "'nan'", "finite")),
        ("10,110,20", "10,,20", ("line 2", "deletion_time", "''")),
        ("10,110,20", "10,5,20", ("line 2", "deletion_time", "creation_time")),
        ("10,110,20", "10,110,2", ("line 2", "scheduled_time", "creation_time")),
    ],
)
def test_openb_pod_errors(tmp_path, old, new, parts):
    assert old in PODS
    refused(read_openb_pods, write(tmp_path, "p.csv", PODS.replace(old, new)), *parts)


def test_azure_trace(tmp_path):
    trace = read_azure_llm(write(tmp_path, "t.csv", LLM))
    assert trace.arrival[0] == 0.0
    assert trace.arrival[1] == pytest.approx(4.314579, abs=1e-9)
    assert trace.context_tokens.tolist() == [374, 396]
    offset = LLM.replace(".6805900", ".6805900+00:00").replace(".9951690", ".9951690+00:00")
    assert read_azure_llm(write(tmp_path, "o.csv", offset)).arrival[1] == trace.arrival[1]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("18:15:46.6805900", "18:61:46", ("line 2", "TIMESTAMP")),
        ("2023-11-16 18:15:50", "yesterday", ("line 3", "TIMESTAMP", "yesterday")),
        ("18:15:50", "18:15:40", ("line 3", "TIMESTAMP", "not before")),
        ("374", "3.5", ("line 2", "ContextTokens", "'3.5'")),
        (",109", ",", ("line 3", "GeneratedTokens", "''")),
        ("GeneratedTokens", "Output", ("line 1", "GeneratedTokens", "required")),
    ],
)
def test_azure_errors(tmp_path, old, new, parts):
    assert old in LLM
    refused(read_azure_llm, write(tmp_path, "t.csv", LLM.replace(old, new)), *parts)


def test_locate_searches_folder_and_its_cloud_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_DATA", str(tmp_path))
    (tmp_path / "cloud").mkdir()
    inner = write(tmp_path / "cloud", "log.swf.gz", job())
    assert locate("log.swf") == inner
    outer = write(tmp_path, "log.swf", job())
    assert locate("log.swf") == outer
    assert locate("log.swf", tmp_path / "cloud") == inner
    assert locate(str(inner)) == inner
    with pytest.raises(DataError, match=r"other\.swf.*--data DIR.*FAIRLEAD_DATA"):
        locate("other.swf")
    with pytest.raises(DataError, match=r"no such folder.*FAIRLEAD_DATA"):
        data_folder(tmp_path / "none")


def test_error_survives_pickling_with_its_parts(tmp_path):
    error = refused(read_swf, write(tmp_path, "bad.swf", "1 2 3"))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(again), again.line, again.file) == (str(error), 1, str(tmp_path / "bad.swf"))


def test_long_values_are_cut_in_messages(tmp_path):
    path = write(tmp_path, "n.csv", NODES.replace("64000", "9" * 5000))
    assert len(str(refused(read_openb_nodes, path, "line 2", "cpu_milli"))) < 400


def test_optional_columns_and_blank_lines(tmp_path):
    path = write(tmp_path, "t.csv", "b, a\n1,2\n\n3,4\n")
    table = read_table(path, ("a",), ("c",))
    assert table.integers("a").tolist() == [2, 4] and table.lines.tolist() == [2, 4]
    assert "c" not in table.columns
