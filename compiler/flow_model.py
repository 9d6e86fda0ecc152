"""Cycles of a program whose units work at the same time, from event to event.

Fetch, load, weights and store are *flows* of bus beats, and the array is a flow of words that takes
weights in proportion.  Rates change only when something begins or ends, or when the weight FIFO becomes
full, empty, or too low to let loads go first; between two such moments everything is linear.  So a program
takes a few steps for each of its instructions, however long these are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from compiler.flow_state import ArrayProgress, Flow
from compiler.layer_estimate import Estimate, LayerEstimate
from compiler.traffic import LONGEST_BURST, Bus, MemoryTiming, transfer_of
from hw.compute_cycles import AFTER_RESULTS, TAKE_CYCLES, compute_cycles
from hw.fetch import QUEUED
from hw.isa import INSTRUCTION_BYTES, Instruction, Opcode, Unit
from hw.machine import Machine
from hw.program_code import WORD_BYTES, bytes_of
from hw.weights import urgent_beats

__all__ = ["FlowModel"]

#: Beats that a load may ask for ahead (`hw.load.Load`).
_LOAD_AHEAD = 512
#: Cycles besides the memory's latency: from START to the first instruction's request and from the last
#: unit's end to DONE; from a request to an instruction in its queue, a word in the scratchpad, a weight at
#: the array; from a store's tokens to its first burst; from the memory's answer to the store's tokens.
#: The first one of what follows: to a weight that is kept on the chip.
_BEGIN, _END = 4, 10
_KEPT_PIPELINE = 16
_FETCH_PIPELINE, _LOAD_PIPELINE, _WEIGHT_PIPELINE, _STORE_PIPELINE, _ANSWER_PIPELINE = 8, 14, 13, 12, 4
#: Cycles to hand out an instruction.
_DISPATCH = 2

_FETCH, _LOAD, _WEIGHTS, _STORE = range(4)
#: Beats and cycles less than this are rounding.
_NOTHING = 1e-6


def _block_words(program: Sequence[Instruction]) -> dict[int, float]:
    """Weight words of an average block of each COMPUTE, without parameters."""
    words: deque[int] = deque()
    for instruction in program:
        if instruction.opcode is Opcode.WEIGHTS:
            words.extend([instruction["words"]] * instruction["blocks"] * (instruction["repeats"] + 1))
    return {
        number: sum(words.popleft() for _ in range(blocks)) / blocks
        for number, instruction in enumerate(program)
        if instruction.opcode is Opcode.COMPUTE and (blocks := instruction["output_blocks"])
    }


class FlowModel:
    """A run on a machine whose units work at the same time; parameters as in `compiler.estimate.estimate`."""

    def __init__(
        self,
        program: Sequence[Instruction],
        machine: Machine,
        memory: MemoryTiming,
        kept_address: int | None = None,
    ) -> None:
        self.program = program
        start = 0 if kept_address is None else kept_address
        size = 0 if kept_address is None else machine.kept_weight_bytes
        self.kept = range(start, start + size)
        self.machine = machine
        self.memory = memory
        self.bus = Bus(machine, memory)
        self.now = 0.0
        self.flows = [Flow() for _ in range(4)]
        self.array = ArrayProgress()
        self.fetched = 0
        self.queues: dict[Opcode, deque[int]] = {code: deque() for code in Opcode}
        self.tokens = {(giver, taker): deque[float]() for giver in Unit for taker in Unit}
        self.level = 0.0  # weight beats that are there and not yet taken
        self.repeated = 0.0  # those of them that are others given again, and take no room
        # besides the FIFO: two tiles and a parameter block in the compute unit
        ahead = 2 * machine.tile_bytes + machine.parameter_bytes
        self.capacity = machine.weight_fifo_words + ahead // machine.bus_bytes
        self.urgent = urgent_beats(machine) + ahead // machine.bus_bytes
        self.layer = 0
        self.layers: dict[int, LayerEstimate] = {}
        self.block_words = _block_words(program) if machine.weight_decoder else {}
        self.begins = [0.0] * len(program)
        self.ends = [0.0] * len(program)

    def run(self) -> Estimate:
        """From start to done; once."""
        self._fetch_next(_BEGIN + self.memory.read_latency + _FETCH_PIPELINE)
        while True:
            while self._fetch() | self._load() | self._store() | self._weights() | self._compute():
                pass
            self._rates()
            step = self._step()
            if step is None:
                break
            self._advance(step)
        end = max(self.now, self.array.results_at, *(flow.busy_until for flow in self.flows)) + _END
        self._layer().cycles += end - self.now
        return Estimate(round(end), self.layers, list(zip(self.begins, self.ends, strict=True)))

    def _layer(self) -> LayerEstimate:
        return self.layers.setdefault(self.layer, LayerEstimate())

    def _held(self) -> float:
        """Weight beats that take room."""
        return self.level - self.repeated

    def _take_weights(self, beats: float) -> None:
        self.level = max(self.level - beats, 0.0)
        self.repeated = max(self.repeated - beats, 0.0)
        if self.repeated < _NOTHING:
            self.repeated = 0.0

    def _past(self, time: float) -> bool:
        return time <= self.now + _NOTHING

    # what happens at this moment; True: something did, so that more may

    def _fetch_next(self, delay: float) -> None:
        flow = self.flows[_FETCH]
        # words that are left out of the program are filled in, one a cycle
        size = bytes_of(self.program[self.fetched])
        delay += (INSTRUCTION_BYTES - size) / WORD_BYTES
        flow.active, flow.ready_at = True, self.now + delay
        flow.left = size / self.machine.bus_bytes
        flow.burst = INSTRUCTION_BYTES / self.machine.bus_bytes
        flow.cost = flow.burst * self.bus.beat_cycles

    def _fetch(self) -> bool:
        flow = self.flows[_FETCH]
        if self.fetched == len(self.program) or flow.left > _NOTHING:
            return False
        flow.active = False
        queue = self.queues[self.program[self.fetched].opcode]
        if len(queue) == QUEUED[self.program[self.fetched].opcode]:
            return False
        queue.append(self.fetched)
        self.fetched += 1
        if self.fetched < len(self.program):
            self._fetch_next(_DISPATCH)
        return True

    def _take_tokens(self, number: int, unit: Unit) -> bool:
        wait = self.program[number].wait
        queues = [self.tokens[(giver, unit)] for giver in Unit if wait >> giver & 1]
        if not all(queue and self._past(queue[0]) for queue in queues):
            return False
        for queue in queues:
            queue.popleft()
        return True

    def _end(self, number: int, unit: Unit, when: float) -> None:
        self.ends[number] = when
        signal = self.program[number].signal
        for receiver in Unit:
            if signal >> receiver & 1:
                self.tokens[(unit, receiver)].append(when)

    def _finished(self, which: int) -> bool:
        """Whether the last beat of a flow's instruction has just moved."""
        flow = self.flows[which]
        if not flow.active or flow.left > _NOTHING:
            return False
        flow.active, flow.free_at = False, self.now
        return True

    def _start(self, which: int, number: int, first_delay: float) -> None:
        """``first_delay``: cycles before the first beat, unless the instruction before has just ended."""
        flow, transfer = self.flows[which], transfer_of(self.program[number], self.machine)
        self.begins[number] = self.now
        flow.active, flow.instruction, flow.left = True, number, transfer.beats
        flow.ready_at = self.now + (0.0 if flow.free_at == self.now else first_delay)
        flow.burst = transfer.beats / transfer.bursts
        flow.cost = self.bus.burst_cycles(transfer)
        flow.most = 1 / transfer.beat_cycles

    def _backlog(self, other: int, ahead: float) -> float:
        """Cycles until what another reader has asked for, at most ``ahead`` beats, has passed."""
        flow = self.flows[other]
        return min(flow.left, ahead) * self.bus.beat_cycles if flow.active else 0.0

    def _load(self) -> bool:
        flow, queue = self.flows[_LOAD], self.queues[Opcode.LOAD]
        if self._finished(_LOAD):
            flow.busy_until = self.now + self.memory.read_latency + _LOAD_PIPELINE
            self._end(flow.instruction, Unit.LOAD, flow.busy_until)
            return True
        if flow.active or not queue or not self._take_tokens(queue[0], Unit.LOAD):
            return False
        room = min(self.capacity - self._held(), self.machine.weight_fifo_words)
        self._start(_LOAD, queue.popleft(), self._backlog(_WEIGHTS, room))
        return True

    def _store(self) -> bool:
        flow, queue = self.flows[_STORE], self.queues[Opcode.STORE]
        if self._finished(_STORE):
            flow.busy_until = self.now + self.memory.write_latency + _ANSWER_PIPELINE
            self._end(flow.instruction, Unit.STORE, flow.busy_until)
            return True
        if flow.active or not queue or not self._take_tokens(queue[0], Unit.STORE):
            return False
        number = queue.popleft()
        # a burst's address is given when its words have been read
        words = min(self.program[number]["words"], LONGEST_BURST / self.machine.beats_per_word)
        self._start(_STORE, number, words + _STORE_PIPELINE)
        return True

    def _weights(self) -> bool:
        flow, queue = self.flows[_WEIGHTS], self.queues[Opcode.WEIGHTS]
        if self._finished(_WEIGHTS):
            if flow.rest:  # what lies behind the range that is kept
                self._bring_weights(flow.instruction, flow.rest, on_chip=False)
                flow.rest = 0.0
                return True
            flow.busy_until = self.ends[flow.instruction] = self.now
            again = self.program[flow.instruction]["repeats"]
            again *= self._weight_beats(flow.instruction)
            self.level, self.repeated = self.level + again, self.repeated + again
            return True
        if flow.active or not queue:
            return False
        number = queue.popleft()
        beats, address = self._weight_beats(number), self.program[number]["memory_address"]
        kept = min(beats, (self.kept.stop - address) // self.bus.bus_bytes) if address in self.kept else 0
        self._bring_weights(number, kept or beats, on_chip=kept > 0)
        flow.rest = float(beats - kept) if kept else 0.0
        return True

    def _bring_weights(self, number: int, beats: float, *, on_chip: bool) -> None:
        flow, delay = self.flows[_WEIGHTS], float(_KEPT_PIPELINE)
        if not on_chip:
            delay = self.memory.read_latency + _WEIGHT_PIPELINE + self._backlog(_LOAD, _LOAD_AHEAD)
        if on_chip != flow.on_chip:
            flow.free_at = -1.0  # the one waits for the other
        flow.on_chip = on_chip
        self._start(_WEIGHTS, number, delay)
        flow.left = beats

    def _weight_beats(self, number: int) -> int:
        return transfer_of(self.program[number], self.machine).beats

    def _compute(self) -> bool:
        return self._end_words() or self._next_words() or self._next_compute()

    def _end_words(self) -> bool:
        array = self.array
        if (work := array.work) is None:
            return False
        if not array.taken and array.left < work.last_pass + _NOTHING:
            array.taken, array.next_at = True, self.now + TAKE_CYCLES
            return True
        if array.left > _NOTHING:
            return False
        array.work, array.results_at = None, self.now + work.drain
        self._end(array.instruction, Unit.COMPUTE, array.results_at)
        if array.next_work is not None:
            self.layer = self.program[array.next_instruction].layer
        return True

    def _next_words(self) -> bool:
        array, work = self.array, self.array.next_work
        if array.work is not None or work is None:
            return False
        array.ready_at = max(array.ready_at, array.results_at + AFTER_RESULTS - work.before_results)
        if not self._past(array.ready_at) or self.level < work.first_beats - _NOTHING:
            return False
        self._take_weights(work.first_beats)
        self.layer = self.program[array.next_instruction].layer
        array.work, array.instruction, array.taken = work, array.next_instruction, False
        array.next_work, array.left = None, float(work.cycles)
        array.demand = (work.weight_beats - work.first_beats) / work.cycles
        return True

    def _next_compute(self) -> bool:
        array, queue = self.array, self.queues[Opcode.COMPUTE]
        if array.next_work is not None or not array.taken or not queue or not self._past(array.next_at):
            return False
        if array.work is None:
            self.layer = self.program[queue[0]].layer
        if not self._take_tokens(queue[0], Unit.COMPUTE):
            return False
        array.next_instruction = queue.popleft()
        number = array.next_instruction
        words = self.block_words.get(number)
        array.next_work = work = compute_cycles(self.machine, self.program[number], words)
        array.ready_at = self.now + work.start
        self.begins[array.next_instruction] = self.now
        return True

    # what lasts until the next event

    def _rates(self) -> None:
        """Set the rates of all flows and of the array."""
        array, weights = self.array, self.flows[_WEIGHTS]
        moving = [flow for flow in self.flows if flow.active and flow.ready_at <= self.now + _NOTHING]
        for flow in self.flows:
            flow.rate = 0.0
        demand = array.demand if array.work is not None else 0.0
        weights.most = 1.0
        if self._held() > self.capacity - _NOTHING:
            # a full FIFO takes what the array takes
            weights.most = 0.0 if self.repeated else demand
        if weights.on_chip and any(flow is weights for flow in moving):
            moving = [flow for flow in moving if flow is not weights]
            weights.rate = min(weights.most, 1.0)
        free, limited = 1.0, True
        while limited:
            self._share(moving, free)
            limited = [flow for flow in moving if flow.rate > flow.most + _NOTHING]
            moving = [flow for flow in moving if flow.rate <= flow.most + _NOTHING]
            for flow in limited:  # the others share the rest
                flow.rate = flow.most
                free -= flow.rate * flow.cost / flow.burst
        array.speed = 0.0
        if array.work is not None:
            array.speed = weights.rate / demand if self.level < _NOTHING and weights.rate < demand else 1.0

    def _share(self, moving: list[Flow], free: float) -> None:
        """Rates of flows that have this share of the memory's time."""
        store = self.flows[_STORE]
        reads = [flow for flow in moving if flow is not store]
        writing = any(flow is store for flow in moving)
        self._shares(reads)
        read_turn, write_turn = self.bus.turns(
            [(flow.share, flow.cost) for flow in reads], store.cost if writing else None, free
        )
        for flow in reads:
            flow.rate = flow.share * flow.burst / read_turn
        if writing:
            store.rate = store.burst / write_turn

    def _shares(self, reads: list[Flow]) -> None:
        """Bursts in a turn: what each reader has on its way."""
        fetch, load, weights, _ = self.flows
        for flow in reads:
            flow.share = 1.0
        if not any(flow is load for flow in reads) or not any(flow is weights for flow in reads):
            return
        rooms = [_LOAD_AHEAD / load.burst, max(self.capacity - self._held(), 0.0) / weights.burst]
        load.share, weights.share = self.bus.shares(rooms)
        if self.level < self.urgent:
            # in turn with loads, until as many beats are on their way as are missing
            wanted = min((self.urgent - self.level) / weights.burst, self.bus.slots / 2)
            weights.share = max(weights.share, wanted, 1.0)
            load.share = max(min(load.share, self.bus.slots - weights.share), 1.0)
        if any(flow is fetch for flow in reads):
            fetch.share = 1.0

    def _step(self) -> float | None:
        """Cycles until the next event; None: there is none."""
        array, now = self.array, self.now
        times = [flow.left / flow.rate for flow in self.flows if flow.rate]
        times += [flow.ready_at - now for flow in self.flows if flow.ready_at > now + _NOTHING]
        moments = [array.next_at, *(queue[0] for queue in self.tokens.values() if queue)]
        change = self.flows[_WEIGHTS].rate
        if (work := array.work) is not None:
            change -= array.demand * array.speed
            if array.speed:
                times.append(array.left / array.speed)
                if not array.taken:
                    times.append((array.left - work.last_pass) / array.speed)
        elif (work := array.next_work) is not None:
            moments.append(array.ready_at)
            if change and self.level < work.first_beats:
                times.append((work.first_beats - self.level) / change)
        times += [moment - now for moment in moments if moment > now + _NOTHING]
        crossings = list[float]()
        filling = change  # beats a cycle that take room
        if self.repeated and (taken := self.flows[_WEIGHTS].rate - change) > _NOTHING:
            crossings.append(self.repeated / taken)
            filling = self.flows[_WEIGHTS].rate
        if abs(filling) > _NOTHING:
            crossings.append((self.capacity - self._held()) / filling)
        if abs(change) > _NOTHING:
            crossings.append(-self.level / change)
            # whether weights are urgent is asked for each burst; else a level that falls above the mark and
            # rises below it would be followed in ever smaller steps
            if (urgent := (self.urgent - self.level) / change) > _NOTHING:
                crossings.append(max(urgent, self.flows[_WEIGHTS].burst * self.bus.beat_cycles))
        times += [crossing for crossing in crossings if crossing > _NOTHING]
        return max(min(times), _NOTHING) if times else None

    def _advance(self, step: float) -> None:
        array, layer = self.array, self._layer()
        layer.cycles += step
        for flow in self.flows:
            if flow.rate:
                flow.left = max(flow.left - flow.rate * step, 0.0)
        self.level += self.flows[_WEIGHTS].rate * step
        if (work := array.work) is not None:
            done = array.speed * step
            self._take_weights(array.demand * done)
            array.left -= done
            layer.array_busy += done * work.words / work.cycles
            layer.idle_weights += step - done + done * work.weight_wait / work.cycles
        elif array.next_work is not None:
            layer.idle_weights += step if self._past(array.ready_at) else 0.0
        elif self.queues[Opcode.COMPUTE] and self._past(array.next_at):
            loading, storing = (
                flow.active or flow.busy_until > self.now for flow in (self.flows[_LOAD], self.flows[_STORE])
            )
            layer.idle_both += step if loading and storing else 0.0
            layer.idle_load += step if loading and not storing else 0.0
            layer.idle_store += step if storing and not loading else 0.0
        self.now += step
