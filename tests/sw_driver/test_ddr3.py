"""DDR3 calibration against a model of the controller's registers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ddr3_model import DDR3Model, LaneModel
from software_board import MemoryLink, SoftwareBoard, small_program

from hw.ddr3_description import HARDWARE_CONTROL, SCRIPT, DDR3Description
from hw.serial_protocol import MemoryState
from sw_driver.__main__ import main
from sw_driver.ddr3 import CalibrationError, calibrate
from sw_driver.serial_link import SerialLink


def test_the_middle_of_each_lanes_window_is_chosen() -> None:
    board = DDR3Model(LaneModel({1: (2, 6)}), LaneModel({3: (0, 2)}))
    calibration = calibrate(board)
    assert str(calibration) == (
        "lane 0: bitslip 1, delay 4 of 2 to 6; lane 1: bitslip 3, delay 1 of 0 to 2"
    )
    assert [(lane.bitslip, lane.delay) for lane in board.lanes] == [(1, 4), (3, 1)]
    assert board.ready
    assert board.control == HARDWARE_CONTROL
    assert not board.failed
    assert calibration.lanes[0].chart()[:2] == ["bitslip 0: |xxxxxxxx|", "bitslip 1: |xx.....x|"]
    assert calibration.to_json()[1]["bitslip"] == 3


@pytest.mark.parametrize(
    ("windows", "bitslip", "delay"),
    [
        ({0: (0, 7)}, 0, 3),
        ({0: (7, 7), 2: (4, 5)}, 2, 4),  # the widest, not the first
        ({1: (1, 3), 2: (4, 6)}, 1, 2),  # the first of equals
        ({3: (7, 7)}, 3, 7),
    ],
)
def test_which_window(windows: dict[int, tuple[int, int]], bitslip: int, delay: int) -> None:
    board = DDR3Model(LaneModel(windows), LaneModel())
    lane = calibrate(board).lanes[0]
    assert (lane.bitslip, lane.delay) == (bitslip, delay)


def test_calibrating_again_begins_with_a_reset() -> None:
    board = DDR3Model()
    calibrate(board)
    board.lanes[0].windows = {2: (1, 1)}
    assert calibrate(board).lanes[0].delay == 1


def test_lane_that_never_reads_right() -> None:
    board = DDR3Model(LaneModel(), LaneModel({}))
    with pytest.raises(CalibrationError, match=r"lane 1: no setting.*not the array") as caught:
        calibrate(board)
    assert "lane 1 bitslip 0: |xxxxxxxx| bitslip 1: |xxxxxxxx|" in str(caught.value)
    assert caught.value.calibration is not None
    assert caught.value.calibration.lanes[0].bitslip == 1
    assert board.failed
    assert not board.ready


def test_lane_without_strobe() -> None:
    board = DDR3Model(LaneModel(strobe=False))
    with pytest.raises(CalibrationError, match="lane 0: no setting reads right, its strobe was never seen"):
        calibrate(board)


def test_stuck_data_line() -> None:
    with pytest.raises(CalibrationError, match="lane 1: no setting reads right"):
        calibrate(DDR3Model(LaneModel(), LaneModel(stuck_at_one=0x10)))


def test_lane_that_stops_working() -> None:
    board = DDR3Model(LaneModel({1: (2, 5)}, lasts=14), LaneModel())
    with pytest.raises(CalibrationError, match="lane 0 does not keep reading right with bitslip 1"):
        calibrate(board)
    assert board.failed


def test_memory_that_is_wrong_after_calibration() -> None:
    board = DDR3Model(broken_memory=True)
    with pytest.raises(CalibrationError, match="1 of 2048 bytes wrong after calibration, first at 0x7"):
        calibrate(board)
    assert board.failed
    assert not board.ready


def test_start_that_does_not_end() -> None:
    class Stuck(DDR3Model):
        def read_register(self, register: int) -> int:
            return 1 if register == SCRIPT else super().read_register(register)

    board = Stuck()
    with pytest.raises(CalibrationError, match="the start sequence does not end"):
        calibrate(board)


def test_board_without_ddr3() -> None:
    with pytest.raises(CalibrationError, match="does not describe its memory"):
        calibrate(MemoryLink(small_program()))


def test_description() -> None:
    words = DDR3Model().description.encode()
    assert DDR3Description.decode([*words, 5, 6]) == DDR3Model().description
    assert len(words) == DDR3Model().description.words
    for wrong in ([], words[:-1], [words[0] + 1, *words[1:]]):
        assert DDR3Description.decode(wrong) is None


def _board(model: DDR3Model) -> SoftwareBoard:
    return SoftwareBoard(
        model, state=lambda: MemoryState.READY if model.ready else MemoryState.WAITS_FOR_HOST
    )


def test_opening_the_link_calibrates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = DDR3Model()
    with _board(model) as board:
        with SerialLink(board.port) as link:
            assert link.identity.memory_ready
            assert str(link.calibration).startswith("lane 0: bitslip 1, delay 3 of 2 to 5")
        tests = model.tests
        with SerialLink(board.port) as link:  # a second time there is nothing to do
            assert link.calibration is None
        assert model.tests == tests
        assert main(["calibrate", "--link", f"serial:{board.port}", "--json", str(tmp_path / "c.json")]) == 0
    assert "lane 1: bitslip 1, delay 3 of 2 to 5\n  bitslip 0: |xxxxxxxx|" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "c.json").read_text())["calibration"]) == 2


def test_self_test_names_the_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_program().save(tmp_path / "small.prog")
    with _board(DDR3Model(LaneModel({}))) as board:
        arguments = ["selftest", str(tmp_path / "small.prog"), "--link", f"serial:{board.port}"]
        assert main([*arguments, "--json", str(tmp_path / "result.json")]) == 1
    said = capsys.readouterr().out
    assert "memory: wrong" in said
    assert "lane 0: no setting reads right" in said
    result = json.loads((tmp_path / "result.json").read_text())
    assert not result["passed"]
    assert "not the array" in result["verdict"]
    assert result["calibration"][0]["bitslip"] is None
