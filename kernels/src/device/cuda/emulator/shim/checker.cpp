// Looks at every access of a kernel. The kernel is compiled with -fsanitize=thread and undefined, which put
// calls before the accesses and behind what is not defined; the functions they call are here.
#include "run.h"
#include <dlfcn.h>
#include <set>
#include <stdio.h>
#include <utility>

namespace emu {
namespace {
// Bytes that are looked after together. No kernel writes single bytes.
const size_t GRAIN = 2;

// Who came last to a grain. Threads count through the grid from 1.
struct Cell {
    uint32_t writer, write_epoch, reader, read_epoch;
    uint16_t write_warp_epoch, read_warp_epoch, write_round, read_round;
    bool initialised;
};

bool checking;
const Call* call;
size_t report_length;
std::set<std::pair<int, uintptr_t>> said;
std::vector<std::vector<Cell>> cells_of_region;
std::vector<std::vector<Cell>> shared_cells; // of each block that is under way

struct Access {
    unsigned char* begin;
    size_t size;
    bool write, atomic;
    uintptr_t where;
};

std::string bytes(const Access& a) { return std::string(a.write ? "write" : "read") + " of " + std::to_string(a.size) + " bytes"; }

// Where an access goes; put into words for a report alone.
struct Spot {
    const Region* region; // none: shared memory
    long offset;
    size_t size;
    std::string words() const {
        std::string memory = region ? "argument " + std::to_string(region->argument) : "shared memory";
        return ", " + memory + " at " + std::to_string(offset) + " of " + std::to_string(size);
    }
};

uint32_t me() { return block->number * threads_of_block + current + 1; }

// Whether both blocks use one counter, and the other one came, behind a barrier after the access or by the thread that made it, to a
// wait that this block has left.
bool is_awaited(uint32_t other, int thread, uint32_t epoch, uint16_t round) {
    if (!call->cooperative || !block->rounds || blocks[other].awaited != block->awaited) return false;
    if (blocks[other].waits.size() < block->rounds) return false;
    const Wait& last = blocks[other].waits[block->rounds - 1];
    return epoch < last.epoch || (thread == last.thread && round < block->rounds);
}

// Whether another thread came to the grain with nothing that orders it before this one.
bool is_unordered(uint32_t other, uint32_t epoch, uint16_t warp_epoch, uint16_t round, bool global) {
    if (!other || other == me()) return false;
    uint32_t number = (other - 1) / threads_of_block, thread = (other - 1) % threads_of_block;
    if (number != block->number) return global && !is_awaited(number, thread, epoch, round);
    if (epoch != block->epoch) return false;
    return int(thread) / 32 != current / 32 || warp_epoch == block->fibers[current].warp_epoch;
}

void look_for_race(Cell& c, const Access& a, const Spot& spot) {
    bool global = spot.region;
    auto race = [&](int kind, const char* other, uint32_t thread) {
        std::string by = std::to_string((thread - 1) % threads_of_block) + " of block " + std::to_string((thread - 1) / threads_of_block);
        say(kind, a.where, "race: " + bytes(a) + " after the " + other + " of thread " + by + spot.words());
    };
    if (is_unordered(c.writer, c.write_epoch, c.write_warp_epoch, c.write_round, global)) race(a.write ? 6 : 7, "write", c.writer);
    if (a.write && is_unordered(c.reader, c.read_epoch, c.read_warp_epoch, c.read_round, global)) race(8, "read", c.reader);
    if (a.write) {
        c.writer = me();
        c.write_epoch = block->epoch;
        c.write_warp_epoch = block->fibers[current].warp_epoch;
        c.write_round = block->rounds;
        return;
    }
    // One reader is remembered; of several since the last barrier any, so that other orders show others.
    bool fresh = c.reader && c.read_epoch == block->epoch && (c.reader - 1) / threads_of_block == block->number;
    if (!fresh || next_random() % 2) {
        c.reader = me();
        c.read_epoch = block->epoch;
        c.read_warp_epoch = block->fibers[current].warp_epoch;
        c.read_round = block->rounds;
    }
}

void look_at_alignment(const Access& a, const Spot& spot) {
    if ((uintptr_t)a.begin % a.size) say(13, a.where, "misaligned: " + bytes(a) + spot.words());
}

void look_at_shared(const Access& a) {
    Spot spot{nullptr, a.begin - block->shared, shared_size};
    if (spot.offset < 0 || spot.offset + a.size > shared_size) {
        return say(9, a.where, "out of bounds: " + bytes(a) + spot.words());
    }
    look_at_alignment(a, spot);
    auto& cells = shared_cells[block - blocks.data()];
    for (size_t i = spot.offset / GRAIN; i * GRAIN < spot.offset + a.size; ++i) {
        Cell& c = cells[i];
        if (!a.write && !c.initialised) say(10, a.where, "uninitialised: " + bytes(a) + spot.words());
        if (!a.atomic) look_for_race(c, a, spot);
        c.initialised |= a.write;
    }
}

void look_at_region(size_t r, const Access& a) {
    const Region& g = call->regions[r];
    Spot spot{&g, a.begin - g.begin, size_t(g.end - g.begin)};
    if (a.begin + a.size > g.end) return say(11, a.where, "out of bounds: " + bytes(a) + spot.words());
    look_at_alignment(a, spot);
    if (a.write && !g.writable) say(12, a.where, "write to a read-only argument: " + bytes(a) + spot.words());
    if (!g.writable || a.atomic) return;
    auto& cells = cells_of_region[r];
    for (size_t i = spot.offset / GRAIN; i * GRAIN < spot.offset + a.size; ++i) look_for_race(cells[i], a, spot);
}

void look(const Access& a) {
    if (!checking || (a.begin >= stacks_begin && a.begin < stacks_end)) return;
    const long NEAR = 4096, FAR = 1 << 20;
    if (a.begin >= block->shared - NEAR && a.begin < block->shared + shared_size + NEAR) return look_at_shared(a);
    for (size_t r = 0; r < call->region_count; ++r)
        if (a.begin >= call->regions[r].begin && a.begin < call->regions[r].end) return look_at_region(r, a);
    // Neither: the launch's scalars, constants of the code, or a miss of the nearest. Every buffer has FAR bytes
    // around it that are nobody's.
    const Region* nearest = nullptr;
    long least = FAR;
    for (size_t r = 0; r < call->region_count; ++r) {
        const Region& g = call->regions[r];
        long distance = a.begin < g.begin ? g.begin - a.begin : a.begin - g.end;
        if (distance < least) nearest = &g, least = distance;
    }
    if (!nearest) return;
    Spot spot{nearest, a.begin - nearest->begin, size_t(nearest->end - nearest->begin)};
    say(11, a.where, "out of bounds: " + bytes(a) + spot.words());
}
} // namespace

void say(int kind, uintptr_t where, const std::string& what) {
    if (!said.insert({kind, where}).second) return;
    const Indices& i = emu_indices;
    Dl_info library;
    bool known = dladdr((void*)where, &library);
    unsigned long offset = known ? where - (uintptr_t)library.dli_fbase : 0;
    char place[160];
    snprintf(place, sizeof place, " [thread %u,%u,%u of block %u,%u,%u]\t%#lx\n", i.thread.x, i.thread.y, i.thread.z, i.block.x,
             i.block.y, i.block.z, offset);
    std::string line = what + place;
    if (report_length + line.size() + 1 > call->report_size) return;
    memcpy(call->report + report_length, line.c_str(), line.size() + 1);
    report_length += line.size();
}

void begin_check(const Call& launch) {
    call = &launch;
    checking = call->check;
    report_length = 0;
    said.clear();
    cells_of_region.assign(call->region_count, {});
    for (size_t r = 0; checking && r < call->region_count; ++r) {
        const Region& g = call->regions[r];
        if (g.writable) cells_of_region[r].assign((g.end - g.begin) / GRAIN + 1, Cell{});
    }
}

void begin_block() {
    if (!checking) return;
    shared_cells.resize(blocks.size());
    shared_cells[block - blocks.data()].assign(shared_size / GRAIN + 1, Cell{});
}
} // namespace emu

using namespace emu;

extern "C" void emu_fail(const char* what, int line) { say(100, line, std::string(what) + ", line " + std::to_string(line)); }

#define WHERE (uintptr_t)__builtin_return_address(0)
#define SEE(name, size, write, atomic) \
    extern "C" void name(void* p) { look({(unsigned char*)p, size, write, atomic, WHERE}); }
#define SEE_SIZE(n) \
    SEE(__tsan_read##n, n, false, false) \
    SEE(__tsan_write##n, n, true, false) \
    SEE(__tsan_unaligned_read##n, n, false, false) \
    SEE(__tsan_unaligned_write##n, n, true, false) \
    SEE(__tsan_volatile_read##n, n, false, false) \
    SEE(__tsan_volatile_write##n, n, true, false)
SEE_SIZE(1)
SEE_SIZE(2)
SEE_SIZE(4)
SEE_SIZE(8)
SEE_SIZE(16)
extern "C" void emu_atomic(void* p, size_t size) { look({(unsigned char*)p, size, true, true, WHERE}); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

// Structs and arrays that are copied whole are seen element by element of their alignment's size.
static void look_at_range(void* p, size_t n, bool write, uintptr_t where) {
    for (size_t i = 0; i < n; i += GRAIN) look({(unsigned char*)p + i, n - i < GRAIN ? 1 : GRAIN, write, false, where});
}
extern "C" void __tsan_read_range(void* p, size_t n) { look_at_range(p, n, false, WHERE); }
extern "C" void __tsan_write_range(void* p, size_t n) { look_at_range(p, n, true, WHERE); }
extern "C" void* __tsan_memcpy(void* to, const void* from, size_t n) {
    look_at_range((void*)from, n, false, WHERE);
    look_at_range(to, n, true, WHERE);
    return memcpy(to, from, n);
}
extern "C" void* __tsan_memset(void* to, int byte, size_t n) {
    look_at_range(to, n, true, WHERE);
    return memset(to, byte, n);
}

// Every handler is first given where in the source it is.
struct Place {
    const char* file;
    uint32_t line, column;
};
#define UNDEFINED(handler, what) \
    extern "C" void __ubsan_handle_##handler(const Place* place, ...) { \
        say(20, WHERE, std::string("undefined: ") + what + ", line " + std::to_string(place->line)); \
    }
UNDEFINED(add_overflow, "sum of integers too large")
UNDEFINED(sub_overflow, "difference of integers too large")
UNDEFINED(mul_overflow, "product of integers too large")
UNDEFINED(negate_overflow, "negation of the least integer")
UNDEFINED(divrem_overflow, "division by zero, or of the least integer by -1")
UNDEFINED(shift_out_of_bounds, "shift by as many bits as there are")
UNDEFINED(out_of_bounds, "index beyond a local array")
UNDEFINED(float_cast_overflow, "float that no integer holds")
UNDEFINED(load_invalid_value, "bool that is neither 0 nor 1")
UNDEFINED(builtin_unreachable, "end of what must return")
