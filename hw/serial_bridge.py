"""The gateware side of `hw.serial_protocol`: requests become accesses to memory and registers."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hw.axi import AXI4, BURST_INCR, AXI4Lite
from hw.request_receiver import RequestReceiver
from hw.serial_protocol import (
    CRC_BYTES,
    DATA_ALIGNMENT,
    ESCAPE,
    ESCAPE_MASK,
    FLAG,
    MAXIMUM_DATA,
    REGISTER_ADDRESS_BITS,
    REQUEST_HEADER_BYTES,
    RESPONSE_HEADER_BYTES,
    Command,
    Identity,
    MemoryState,
    ResponseStatus,
)

__all__ = ["SerialBridge"]

_BEAT_BYTES = 8


class SerialBridge(Component):
    """Executes framed requests, one at a time, in order.

    A request is executed only after its checksum has been found right, and answered once.  Anything
    else is dropped silently, and the next flag starts afresh.

    Parameters
    ----------
    memory_bytes : int
        Size of the external memory, told to the host; accesses beyond it are refused.
    clock_hz : int
        The clock, told to the host.
    register_address_bits : int
        Registers lie below two to the power of this.
    started_by_host : bool
        Whether a memory that is not ready waits for the host to calibrate it.

    Members
    -------
    received : In(8), received_valid : In(1)
        Bytes from the line; they cannot wait.
    sent : Out(stream of 8 bits)
        Bytes for the line.
    memory_ready : In(1)
        The external memory has been initialised.
    m_axi : Out(AXI4)
        AXI4 manager, 64 bits, single beats, one access at a time.
    m_axil : Out(AXI4Lite)
        AXI4-Lite manager, 32 bits, one access at a time.
    executing : Out(1)
        A request is being executed or answered.
    """

    def __init__(
        self,
        memory_bytes: int,
        clock_hz: int,
        *,
        register_address_bits: int = REGISTER_ADDRESS_BITS,
        started_by_host: bool = False,
    ) -> None:
        if not 0 < memory_bytes < 1 << 32 or memory_bytes % DATA_ALIGNMENT:
            raise ValueError(
                f"memory_bytes must be a multiple of {DATA_ALIGNMENT} below 2^32, not {memory_bytes!r}"
            )
        if not 0 < clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be 1 to 2^32 - 1, not {clock_hz!r}")
        self.memory_bytes = memory_bytes
        self.clock_hz = clock_hz
        self.register_address_bits = register_address_bits
        self.started_by_host = started_by_host
        super().__init__(
            {
                "received": In(8),
                "received_valid": In(1),
                "sent": Out(stream.Signature(8)),
                "memory_ready": In(1),
                "executing": Out(1),
                "m_axi": Out(AXI4(64)),
                "m_axil": Out(AXI4Lite(register_address_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = RequestReceiver()
        m.submodules.buffer = buffer = Memory(shape=8, depth=MAXIMUM_DATA, init=[])
        buffer_write, buffer_read = buffer.write_port(), buffer.read_port()
        # A block RAM is slow to answer: its byte is held in a register, one cycle later.
        buffered = Signal(8)
        m.d.sync += buffered.eq(buffer_read.data)
        m.d.comb += [
            receiver.received.eq(self.received),
            receiver.received_valid.eq(self.received_valid),
        ]
        crc_out = m.submodules.crc_out = CRC32_ETHERNET(data_width=8).create()

        # --- the request -------------------------------------------------------------------------
        header = receiver.header
        sequence, command, count = header[0:8], header[8:16], header[48:64]
        previous, previous_known = Signal(8), Signal()
        address = Signal(32)  # of the next beat
        position = Signal(range(MAXIMUM_DATA))  # byte of the buffer
        store = Signal()  # a byte of a beat goes into the buffer at `position`
        register_value = Signal(32)
        beat = Signal(64)
        lane = Signal(range(_BEAT_BYTES))
        with m.If(receiver.data_valid & receiver.in_word):
            m.d.sync += register_value.eq(Cat(register_value[8:], receiver.data_byte))

        # --- the answer --------------------------------------------------------------------------
        status = Signal(ResponseStatus)
        answer_bytes = Signal(range(MAXIMUM_DATA + 1))
        waiting_state = MemoryState.WAITS_FOR_HOST if self.started_by_host else MemoryState.NOT_READY
        identity = Identity(self.memory_bytes, self.clock_hz, waiting_state).encode()
        ready = Identity(self.memory_bytes, self.clock_hz, MemoryState.READY).encode()
        identity_bytes = Array(
            Const(no, 8) if no == yes else Mux(self.memory_ready, yes, no) for no, yes in zip(identity, ready)
        )

        # --- checks of a whole request -----------------------------------------------------------
        asked = header[16:48]
        data_bytes = Signal.like(receiver.frame_bytes)
        memory_fits, register_fits, acceptable = Signal(), Signal(), Signal()
        # in two cycles after the frame's last byte: with its end, and in the state JUDGE
        end = Signal(33)
        m.d.sync += [
            end.eq(asked + count),  # known before the checksum has come
            data_bytes.eq(receiver.frame_bytes - (REQUEST_HEADER_BYTES + CRC_BYTES)),
            memory_fits.eq(
                (asked % DATA_ALIGNMENT == 0)
                & (count % DATA_ALIGNMENT == 0)
                & (count != 0)
                & (count <= MAXIMUM_DATA)
                & (end <= self.memory_bytes)
            ),
            register_fits.eq((asked % 4 == 0) & (asked < 1 << self.register_address_bits) & (count == 4)),
        ]
        m.d.sync += acceptable.eq(0)
        with m.Switch(command):
            with m.Case(Command.IDENTIFY):
                m.d.sync += acceptable.eq((data_bytes == 0) & (count == 0))
            with m.Case(Command.READ_MEMORY):
                m.d.sync += acceptable.eq((data_bytes == 0) & memory_fits)
            with m.Case(Command.WRITE_MEMORY):
                m.d.sync += acceptable.eq((data_bytes == count) & memory_fits)
            with m.Case(Command.READ_REGISTER):
                m.d.sync += acceptable.eq((data_bytes == 0) & register_fits)
            with m.Case(Command.WRITE_REGISTER):
                m.d.sync += acceptable.eq((data_bytes == 4) & register_fits)

        m.d.comb += [
            self.m_axi.awaddr.eq(address),
            self.m_axi.wdata.eq(beat),
            self.m_axi.araddr.eq(address),
            self.m_axil.awaddr.eq(address),
            self.m_axil.wdata.eq(register_value),
            self.m_axil.wstrb.eq(0b1111),
            self.m_axil.araddr.eq(address),
            self.m_axi.awsize.eq(3),
            self.m_axi.awburst.eq(BURST_INCR),
            self.m_axi.wstrb.eq(0xFF),
            self.m_axi.wlast.eq(1),
            self.m_axi.arsize.eq(3),
            self.m_axi.arburst.eq(BURST_INCR),
        ]

        def wait_for_response(valid: Signal, ready: Signal, response: Signal, next_state: str) -> None:
            m.d.comb += ready.eq(1)
            with m.If(valid):
                with m.If(response != 0):
                    m.d.sync += status.eq(ResponseStatus.BUS_ERROR)
                m.next = next_state

        def hold_until_taken(*channels: tuple[Signal, Signal]) -> None:
            for valid, ready in channels:
                with m.If(ready):
                    m.d.sync += valid.eq(0)

        hold_until_taken(
            (self.m_axi.awvalid, self.m_axi.awready),
            (self.m_axi.wvalid, self.m_axi.wready),
            (self.m_axi.arvalid, self.m_axi.arready),
            (self.m_axil.awvalid, self.m_axil.awready),
            (self.m_axil.wvalid, self.m_axil.wready),
            (self.m_axil.arvalid, self.m_axil.arready),
        )

        plain = Signal(8)  # the byte that is sent next, not escaped
        length = Signal(range(RESPONSE_HEADER_BYTES + MAXIMUM_DATA + CRC_BYTES + 1))  # of the answer's bytes
        content_bytes = Signal(range(RESPONSE_HEADER_BYTES + MAXIMUM_DATA + 1))
        is_content, is_last = Signal(), Signal()
        before_last = Signal(range(MAXIMUM_DATA), reset_less=True)  # position of the last byte but one
        # of the cycle before, so that little hangs on a state but the next one
        was_before_last, was_end, is_special = Signal(), Signal(), Signal()
        identifies, reads_memory = Signal(), Signal()
        m.d.sync += [
            identifies.eq(command == Command.IDENTIFY),
            reads_memory.eq(command == Command.READ_MEMORY),
            before_last.eq(count - 2),
            was_before_last.eq(position == before_last),
            was_end.eq(position == count[: len(position)]),
            is_special.eq((plain == FLAG) | (plain == ESCAPE)),
            content_bytes.eq(RESPONSE_HEADER_BYTES + answer_bytes),
            is_content.eq(length < content_bytes),
            is_last.eq(length == content_bytes + (CRC_BYTES - 1)),
        ]
        answer_byte = Signal(8)
        with m.If(length == 0):
            m.d.sync += plain.eq(sequence)
        with m.Elif(length == 1):
            m.d.sync += plain.eq(status)
        with m.Elif(~is_content):
            m.d.sync += plain.eq(crc_out.crc.word_select((length - content_bytes)[:2], 8))
        with m.Elif(identifies):
            m.d.sync += plain.eq(identity_bytes[position[:4]])
        with m.Elif(reads_memory):
            m.d.sync += plain.eq(buffered)
        with m.Else():
            m.d.sync += plain.eq(register_value.word_select(position[:2], 8))

        with m.FSM() as fsm:
            with m.State("RECEIVE"):
                m.d.comb += receiver.listens.eq(1)
                with m.If(receiver.request):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += address.eq(asked)
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    previous.eq(sequence),
                    previous_known.eq(1),
                    answer_bytes.eq(0),
                    position.eq(0),
                    lane.eq(0),
                    status.eq(ResponseStatus.OKAY),
                ]
                m.next = "ANSWER"
                with m.If(~acceptable):
                    m.d.sync += status.eq(ResponseStatus.BAD_REQUEST)
                with m.Else(), m.Switch(command):
                    with m.Case(Command.IDENTIFY):
                        m.d.sync += answer_bytes.eq(len(identity))
                    with m.Case(Command.READ_MEMORY):
                        with m.If(self.memory_ready):
                            m.next = "READ"
                        with m.Else():
                            m.d.sync += status.eq(ResponseStatus.NOT_READY)
                    with m.Case(Command.WRITE_MEMORY):
                        with m.If(self.memory_ready):
                            m.next = "GATHER"
                        with m.Else():
                            m.d.sync += status.eq(ResponseStatus.NOT_READY)
                    with m.Case(Command.READ_REGISTER):
                        m.d.sync += self.m_axil.arvalid.eq(1)
                        m.next = "READ REGISTER"
                    with m.Case(Command.WRITE_REGISTER):
                        # A repetition finds its write done, with the status that it had.
                        with m.If(previous_known & (previous == sequence)):
                            m.d.sync += status.eq(status)
                        with m.Else():
                            m.d.sync += [self.m_axil.awvalid.eq(1), self.m_axil.wvalid.eq(1)]
                            m.next = "WRITE REGISTER"

            with m.State("READ"):
                m.d.sync += self.m_axi.arvalid.eq(1)
                m.next = "READ DATA"
            with m.State("READ DATA"):
                m.d.sync += [beat.eq(self.m_axi.rdata)]
                wait_for_response(self.m_axi.rvalid, self.m_axi.rready, self.m_axi.rresp, "SCATTER")
            with m.State("SCATTER"):
                m.d.comb += store.eq(1)
                m.d.sync += [beat.eq(beat[8:]), position.eq(position + 1), lane.eq(lane + 1)]
                with m.If(lane == _BEAT_BYTES - 1):
                    m.d.sync += address.eq(address + _BEAT_BYTES)
                    m.next = "READ"
                    with m.If(was_before_last):
                        m.d.sync += answer_bytes.eq(count)
                        m.next = "ANSWER"

            with m.State("GATHER"):
                # the byte at `position` leaves the buffer after this cycle, `buffered` after the next
                m.next = "GATHER WAIT"
            with m.State("GATHER WAIT"):
                m.next = "GATHER BYTE"
            with m.State("GATHER BYTE"):
                m.d.sync += [beat.eq(Cat(beat[8:], buffered)), position.eq(position + 1), lane.eq(lane + 1)]
                m.next = "GATHER"
                with m.If(lane == _BEAT_BYTES - 1):
                    m.d.sync += [self.m_axi.awvalid.eq(1), self.m_axi.wvalid.eq(1)]
                    m.next = "WRITE RESPONSE"
            with m.State("WRITE RESPONSE"):
                wait_for_response(self.m_axi.bvalid, self.m_axi.bready, self.m_axi.bresp, "WRITE NEXT")
            with m.State("WRITE NEXT"):
                m.d.sync += address.eq(address + _BEAT_BYTES)
                m.next = "GATHER"
                with m.If(was_end):
                    m.next = "ANSWER"

            with m.State("READ REGISTER"):
                m.d.sync += [register_value.eq(self.m_axil.rdata), answer_bytes.eq(4)]
                wait_for_response(self.m_axil.rvalid, self.m_axil.rready, self.m_axil.rresp, "ANSWER")
            with m.State("WRITE REGISTER"):
                wait_for_response(self.m_axil.bvalid, self.m_axil.bready, self.m_axil.bresp, "ANSWER")

            with m.State("ANSWER"):
                m.d.comb += [crc_out.start.eq(1), self.sent.valid.eq(1), self.sent.payload.eq(FLAG)]
                m.d.sync += [length.eq(0), position.eq(0)]
                with m.If(self.sent.ready):
                    m.next = "FETCH"
                with m.If(status != ResponseStatus.OKAY):
                    m.d.sync += answer_bytes.eq(0)

            with m.State("FETCH"):
                m.next = "FETCH WAIT"
            with m.State("FETCH WAIT"):
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.next = "LATCH"
            with m.State("LATCH"):
                m.d.sync += answer_byte.eq(plain)
                m.d.comb += [crc_out.data.eq(plain), crc_out.valid.eq(is_content)]
                m.next = "COMPARED"
            with m.State("COMPARED"):
                m.next = "SEND"
                with m.If(is_special):
                    m.next = "SEND ESCAPE"
            with m.State("SEND ESCAPE"):
                m.d.comb += [self.sent.valid.eq(1), self.sent.payload.eq(ESCAPE)]
                with m.If(self.sent.ready):
                    m.d.sync += answer_byte.eq(answer_byte ^ ESCAPE_MASK)
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.sent.valid.eq(1), self.sent.payload.eq(answer_byte)]
                with m.If(self.sent.ready):
                    m.next = "SENT"
            with m.State("SENT"):
                m.d.sync += length.eq(length + 1)
                with m.If(length >= RESPONSE_HEADER_BYTES):
                    m.d.sync += position.eq(position + 1)
                m.next = "FETCH"
                with m.If(is_last):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += [self.sent.valid.eq(1), self.sent.payload.eq(FLAG)]
                with m.If(self.sent.ready):
                    m.next = "FORGET"
            with m.State("FORGET"):
                m.d.comb += receiver.forget.eq(1)
                m.next = "RECEIVE"

        m.d.comb += [
            buffer_read.addr.eq(position),
            buffer_write.en.eq(store | receiver.data_valid),
            buffer_write.addr.eq(Mux(store, position, receiver.data_place)),
            buffer_write.data.eq(Mux(store, beat[:8], receiver.data_byte)),
            self.executing.eq(~fsm.ongoing("RECEIVE")),
        ]
        return m
