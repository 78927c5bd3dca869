#include "devices/pic8259.h"

#include "base/assert.h"

namespace vg::devices {

namespace {

constexpr unsigned kMaster = 0, kSlave = 1, kCascade = 2;
constexpr u8 kWord1 = 0x10, kWord1Needs4 = 0x01, kWord1Single = 0x02;
constexpr u8 kWord4AutoEoi = 0x02, kWord4FullyNestedSpecial = 0x10;
constexpr u8 kOcw3 = 0x08, kOcw3Poll = 0x04, kOcw3ReadSelect = 0x02, kOcw3ReadIsr = 0x01, kOcw3MaskSelect = 0x40,
             kOcw3SpecialMask = 0x20;
/// Inputs that can be made level-triggered: not the timer, keyboard, cascade, clock and coprocessor.
constexpr u8 kElcrWritable[] = {0xf8, 0xde};

constexpr u8 mask_of(unsigned input) { return static_cast<u8>(1u << input); }

}  // namespace

PicPair::PicPair(IrqLine& intr)
    : intr_(intr),
      ports_{PortWindow([this](u16 o, unsigned s, u32& v) { return read(kMaster, o, s, v); },
                        [this](u16 o, unsigned s, u32 v) { return write(kMaster, o, s, v); }),
             PortWindow([this](u16 o, unsigned s, u32& v) { return read(kSlave, o, s, v); },
                        [this](u16 o, unsigned s, u32 v) { return write(kSlave, o, s, v); })},
      elcr_ports_(
          [this](u16 offset, unsigned size, u32& value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset > 1) return IoStatus::NoRegister;
              value = chips_[offset].elcr;
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset > 1) return IoStatus::NoRegister;
              chips_[offset].elcr = static_cast<u8>(value) & kElcrWritable[offset];
              update();
              return IoStatus::Ok;
          }) {
    for (u32 i = 0; i < lines_.size(); ++i) {
        lines_[i].owner = this;
        lines_[i].index = i;
    }
}

void PicPair::reset() {
    chips_ = {};
    update();
}

void PicPair::fields(StateVisitor& v) {
    static constexpr std::string_view kNames[] = {"master", "slave"};
    for (unsigned i = 0; i < 2; ++i) {
        Chip& c = chips_[i];
        VisitScope scope(v, kNames[i]);
        v("irr", c.irr, Fmt::Bin);
        v("isr", c.isr, Fmt::Bin);
        v("imr", c.imr, Fmt::Bin);
        v("lines", c.lines, Fmt::Bin);
        v("elcr", c.elcr, Fmt::Bin);
        v("vector_base", c.vector_base);
        v("lowest", c.lowest, Fmt::Dec);
        v("next_word", c.next_word, Fmt::Dec);
        v("single", c.single);
        v("needs_word4", c.needs_word4);
        v("read_isr", c.read_isr);
        v("poll", c.poll);
        v("special_mask", c.special_mask);
        v("auto_eoi", c.auto_eoi);
        v("rotate_on_auto_eoi", c.rotate_on_auto_eoi);
        v("fully_nested_special", c.fully_nested_special);
        if (v.loading()) c.lowest &= 7;
    }
}

IrqLine& PicPair::line(u32 index) {
    VG_ASSERT(index < lines_.size());
    return lines_[index];
}

u8 PicPair::requests(unsigned chip) const {
    const Chip& c = chips_[chip];
    u8 out = static_cast<u8>(c.irr | (c.lines & c.elcr));
    // The slave's output is the master's input 2.
    if (chip == kMaster && highest(kSlave) >= 0) out |= mask_of(kCascade);
    return out;
}

int PicPair::highest(unsigned chip) const {
    const Chip& c = chips_[chip];
    const u8 wanted = static_cast<u8>(requests(chip) & ~c.imr);
    for (unsigned i = 1; i <= 8; ++i) {
        const unsigned input = (c.lowest + i) & 7;
        const bool in_service = (c.isr & mask_of(input)) != 0;
        // Data sheet, "Special Fully Nested Mode": a slave in service is not locked out of the master's priority logic.
        const bool slave_again = c.fully_nested_special && chip == kMaster && input == kCascade;
        if ((wanted & mask_of(input)) != 0 && (!in_service || slave_again)) return static_cast<int>(input);
        // An input in service blocks itself and all below; special mask mode lifts that for all others.
        if (in_service && !c.special_mask) return -1;
    }
    return -1;
}

bool PicPair::pending() const { return highest(kMaster) >= 0; }

void PicPair::acknowledge_input(unsigned chip, unsigned input) {
    Chip& c = chips_[chip];
    c.irr = static_cast<u8>(c.irr & ~mask_of(input));
    if (!c.auto_eoi) {
        c.isr |= mask_of(input);
    } else if (c.rotate_on_auto_eoi) {
        c.lowest = static_cast<u8>(input);
    }
}

u8 PicPair::acknowledge() {
    const int input = highest(kMaster);
    u8 vector = 0;
    if (input == static_cast<int>(kCascade)) {
        const int behind = highest(kSlave);
        if (behind >= 0) acknowledge_input(kSlave, static_cast<unsigned>(behind));
        acknowledge_input(kMaster, kCascade);
        vector = static_cast<u8>(chips_[kSlave].vector_base + (behind >= 0 ? behind : 7));
    } else {
        if (input >= 0) acknowledge_input(kMaster, static_cast<unsigned>(input));
        vector = static_cast<u8>(chips_[kMaster].vector_base + (input >= 0 ? input : 7));
    }
    update();
    return vector;
}

void PicPair::set_line(u32 index, bool level) {
    Chip& c = chips_[index / 8];
    const u8 mask = mask_of(index % 8);
    if (level && (c.lines & mask) == 0 && (c.elcr & mask) == 0) c.irr |= mask;
    c.lines = static_cast<u8>(level ? c.lines | mask : c.lines & ~mask);
    update();
}

void PicPair::update() { intr_.set(pending()); }

IoStatus PicPair::read(unsigned chip, u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset > 1) return IoStatus::NoRegister;
    Chip& c = chips_[chip];
    if (c.poll) {  // data sheet, "Poll Command": the next read is an acknowledge
        c.poll = false;
        const int input = highest(chip);
        value = input < 0 ? 0 : 0x80u | static_cast<u32>(input);
        if (input >= 0) acknowledge_input(chip, static_cast<unsigned>(input));
        update();
    } else if (offset == 1) {
        value = c.imr;
    } else {
        value = c.read_isr ? c.isr : requests(chip);
    }
    return IoStatus::Ok;
}

IoStatus PicPair::write(unsigned chip, u16 offset, unsigned size, u32 value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset > 1) return IoStatus::NoRegister;
    if (offset == 0) {
        write_command(chips_[chip], static_cast<u8>(value));
    } else {
        write_data(chips_[chip], static_cast<u8>(value));
    }
    update();
    return IoStatus::Ok;
}

void PicPair::write_command(Chip& c, u8 value) {
    if ((value & kWord1) != 0) {
        // Data sheet, "Initialization Command Words 1 and 2": edges, masks, priority and modes start over.
        Chip fresh;
        fresh.lines = c.lines;
        fresh.elcr = c.elcr;
        fresh.vector_base = c.vector_base;
        fresh.next_word = 2;
        fresh.single = (value & kWord1Single) != 0;
        fresh.needs_word4 = (value & kWord1Needs4) != 0;
        c = fresh;
    } else if ((value & kOcw3) != 0) {
        c.poll = (value & kOcw3Poll) != 0;
        if ((value & kOcw3ReadSelect) != 0) c.read_isr = (value & kOcw3ReadIsr) != 0;
        if ((value & kOcw3MaskSelect) != 0) c.special_mask = (value & kOcw3SpecialMask) != 0;
    } else {
        end_of_interrupt(c, value);
    }
}

// Operation command word 2: R, SL, EOI in bits 7:5 and an input in 2:0.
void PicPair::end_of_interrupt(Chip& c, u8 command) {
    const bool rotate = (command & 0x80) != 0, specific = (command & 0x40) != 0, eoi = (command & 0x20) != 0;
    int input = command & 7;
    if (!eoi) {
        if (!specific) c.rotate_on_auto_eoi = rotate;
        if (specific && rotate) c.lowest = static_cast<u8>(input);
        return;
    }
    if (!specific) {
        input = -1;
        for (unsigned i = 1; i <= 8 && input < 0; ++i) {
            const unsigned candidate = (c.lowest + i) & 7;
            const u8 mask = mask_of(candidate);
            // "An IS bit that is masked is not cleared by a nonspecific EOI in special mask mode."
            if ((c.isr & mask) != 0 && !(c.special_mask && (c.imr & mask) != 0)) input = static_cast<int>(candidate);
        }
        if (input < 0) return;
    }
    c.isr = static_cast<u8>(c.isr & ~mask_of(static_cast<unsigned>(input)));
    if (rotate) c.lowest = static_cast<u8>(input);
}

void PicPair::write_data(Chip& c, u8 value) {
    switch (c.next_word) {
        case 2:
            c.vector_base = value & 0xf8;
            c.next_word = !c.single ? 3 : c.needs_word4 ? 4 : 0;
            break;
        case 3:
            c.next_word = c.needs_word4 ? 4 : 0;
            break;  // the cascade's wiring is fixed
        case 4:
            c.auto_eoi = (value & kWord4AutoEoi) != 0;
            c.fully_nested_special = (value & kWord4FullyNestedSpecial) != 0;
            c.next_word = 0;
            break;
        default:
            c.imr = value;
            break;
    }
}

}  // namespace vg::devices
