"""Gorilla's packing of one series (Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015,
section 4.1), as a measure for others, and the way back to prove that what is counted could be read.

As the paper has it, but where its seconds become microseconds:

- The block's header of 64 bits, its start, is not counted: a chunk's row has its first time in a column of its own.
- The first delta has 20 bits instead of 14: these hold a second, the longest chunk, as 14 hold the paper's block.
"""

import struct

FIRST_DELTA_BITS = 20
# Of a delta of deltas: prefix, its bits, bits of the number, least, most.
RANGES = ((0b0, 1, 0, 0, 0), (0b10, 2, 7, -63, 64), (0b110, 3, 9, -255, 256), (0b1110, 4, 12, -2047, 2048))
FULL = (0b1111, 4, 32)


class Bits:
    """Bits one after another, the highest first."""

    def __init__(self):
        self.value, self.count = 0, 0

    def put(self, value, count):
        self.value, self.count = self.value << count | value, self.count + count


class Reader:
    def __init__(self, bits):
        self.value, self.left = bits.value, bits.count

    def take(self, count):
        self.left -= count
        return self.value >> self.left & ((1 << count) - 1)


def as_bits(value):
    return struct.unpack(">Q", struct.pack(">d", value))[0]


def pack(times_us, values):
    """A series' bits, of one sample at least."""
    bits = Bits()
    before_us, delta_us = times_us[0], 0
    before = as_bits(values[0])
    bits.put(before, 64)
    # Leading zeros and length of the meaningful bits, of the last that had them written.
    zeros, length = 65, 0
    for number, (t_us, value) in enumerate(zip(times_us[1:], values[1:])):
        delta_before_us, delta_us, before_us = delta_us, t_us - before_us, t_us
        if number == 0:
            bits.put(delta_us, FIRST_DELTA_BITS)
        else:
            put_delta(bits, delta_us - delta_before_us)
        now = as_bits(value)
        differs, before = now ^ before, now
        if differs == 0:
            bits.put(0, 1)
            continue
        leading = min(64 - differs.bit_length(), 31)
        trailing = (differs & -differs).bit_length() - 1
        if leading >= zeros and trailing >= 64 - zeros - length:
            bits.put(0b10, 2)
            bits.put(differs >> 64 - zeros - length, length)
            continue
        zeros, length = leading, 64 - leading - trailing
        bits.put(0b11, 2)
        bits.put(zeros, 5)
        # 6 bits: a length of 64 is written as 0.
        bits.put(length & 63, 6)
        bits.put(differs >> trailing, length)
    return bits


def put_delta(bits, delta):
    for prefix, prefix_bits, width, least, most in RANGES:
        if least <= delta <= most:
            bits.put(prefix, prefix_bits)
            bits.put(delta - least, width)
            return
    bits.put(FULL[0], FULL[1])
    bits.put(delta & 0xFFFF_FFFF, FULL[2])


def unpack(bits, first_us, count):
    """Times and values again."""
    reader = Reader(bits)
    word = reader.take(64)
    times, values = [first_us], [word]
    delta_us, zeros, length = 0, 0, 0
    for number in range(count - 1):
        delta_us = reader.take(FIRST_DELTA_BITS) if number == 0 else delta_us + take_delta(reader)
        times.append(times[-1] + delta_us)
        if reader.take(1):
            if reader.take(1):
                zeros, length = reader.take(5), reader.take(6) or 64
            word ^= reader.take(length) << 64 - zeros - length
        values.append(word)
    assert reader.left == 0
    return times, [struct.unpack(">d", struct.pack(">Q", value))[0] for value in values]


def take_delta(reader):
    ones = 0
    while ones < 4 and reader.take(1):
        ones += 1
    if ones < 4:
        _, _, width, least, _ = RANGES[ones]
        return reader.take(width) + least
    delta = reader.take(32)
    return delta - (1 << 32) if delta >> 31 else delta
