// Runs a grid: blocks one after another, or all of a cooperative launch in turns; the threads of a block as fibers that
// switch at barriers.
#include "run.h"
#include <algorithm>
#include <stdlib.h>
#include <sys/mman.h>

// Saves the registers that a call preserves, and the stack pointer at *save; goes on with the stack `to`.
extern "C" void emu_switch(void** save, void* to);
asm(R"(
.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch,.-emu_switch
)");

emu::Indices emu_indices;

namespace emu {
std::vector<Block> blocks;
Block* block;
int current = -1;
unsigned threads_of_block;
unsigned char *stacks_begin, *stacks_end;
size_t shared_size;

namespace {
const size_t STACK = 64 << 10;
std::vector<unsigned char> shared_memory;
void* scheduler_stack;
const Call* call;
uint64_t random_state;
uint32_t epochs; // of all blocks so far

void start() {
    call->entry(call->arguments);
    Fiber& me = block->fibers[current];
    me.state = DONE;
    emu_switch(&me.stack_pointer, scheduler_stack);
    abort(); // a fiber that is done is never entered
}

void leave() {
    Fiber& me = block->fibers[current];
    emu_switch(&me.stack_pointer, scheduler_stack);
}

void enter(int fiber) {
    current = fiber;
    emu_indices.thread = block->fibers[fiber].thread;
    emu_switch(&scheduler_stack, block->fibers[fiber].stack_pointer);
}

uint3 place(unsigned thread) {
    const unsigned* dim = call->block;
    return {thread % dim[0], thread / dim[0] % dim[1], thread / dim[0] / dim[1]};
}

// Stacks and shared memory for so many blocks; false where there is no memory.
bool reserve(size_t count) {
    blocks.resize(count);
    size_t stacks = count * threads_of_block * STACK;
    if (stacks_begin + stacks > stacks_end) {
        if (stacks_begin) munmap(stacks_begin, stacks_end - stacks_begin);
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stacks_begin = (unsigned char*)mmap(nullptr, stacks, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (stacks_begin == MAP_FAILED) {
            stacks_begin = stacks_end = nullptr;
            say(7, 0, "no memory for the stacks of " + std::to_string(count) + " blocks");
            return false;
        }
        stacks_end = stacks_begin + stacks;
    }
    // As far around each as the checker looks for misses.
    size_t each = (shared_size + 2 * 4096 + 1023) & ~size_t(1023);
    shared_memory.resize(count * each + 1024);
    auto* begin = (unsigned char*)(((uintptr_t)shared_memory.data() + 1023) & ~uintptr_t(1023));
    for (size_t i = 0; i < count; ++i) blocks[i].shared = begin + i * each + 4096;
    return true;
}

void make_fibers() {
    unsigned char* stacks = stacks_begin + (block - blocks.data()) * threads_of_block * STACK;
    for (unsigned i = 0; i < threads_of_block; ++i) {
        void** top = (void**)(stacks + (i + 1) * STACK);
        *--top = nullptr; // the alignment that a call leaves
        *--top = (void*)start;
        for (int registers = 0; registers < 6; ++registers) *--top = nullptr;
        block->fibers[i] = Fiber{top, READY, 0, 0, nullptr, nullptr, place(i), 0};
    }
}

// Makes a block the running one.
void turn_to(Block& next) {
    const unsigned* grid = call->grid;
    block = &next;
    emu_indices.block = {next.number % grid[0], next.number / grid[0] % grid[1], next.number / grid[0] / grid[1]};
}

void begin(Block& next, uint32_t number) {
    next.number = number;
    next.epoch = ++epochs;
    next.live = threads_of_block;
    next.is_waiting = false;
    next.awaited = nullptr;
    next.waits.clear();
    next.rounds = 0;
    next.fibers.resize(threads_of_block);
    turn_to(next);
    memset(block->shared, 0xff, shared_size); // NaN, and far out as an index
    begin_block();
    if (call->fibred) make_fibers();
}

std::string at(int line) { return ", line " + std::to_string(line); }

// Lets a warp go on whose lanes have all come to the same operation. False: the block cannot go on.
bool step_warp(unsigned begin, unsigned end, bool& moved) {
    auto& fibers = block->fibers;
    unsigned waiting = 0, done = 0;
    bool same = true;
    int first = -1;
    for (unsigned f = begin; f < end; ++f) {
        if (fibers[f].state == DONE) ++done;
        if (fibers[f].state != AT_WARP_OPERATION) continue;
        ++waiting;
        if (first < 0) first = f;
        same &= fibers[f].line == fibers[first].line && fibers[f].kind == fibers[first].kind;
    }
    if (!waiting || waiting + done < end - begin) return true;
    int line = fibers[first].line;
    emu_indices.thread = fibers[first].thread;
    if (waiting < 32) say(1, line, "warp operation without all 32 lanes" + at(line));
    if (!same) say(2, line, "lanes of a warp at different operations" + at(line));
    if (!same || waiting < 32) return false;
    if (fibers[first].act) {
        void* data[32];
        for (unsigned f = begin; f < end; ++f) data[f - begin] = fibers[f].data;
        fibers[first].act(data);
    }
    for (unsigned f = begin; f < end; ++f) {
        fibers[f].state = READY;
        fibers[f].warp_epoch++;
    }
    moved = true;
    return true;
}

// Lets the block go on when all threads that are left wait at its barrier.
void step_block(bool& moved) {
    auto& fibers = block->fibers;
    unsigned waiting = 0, n = threads_of_block;
    bool same = true;
    int first = -1;
    for (unsigned f = 0; f < n; ++f) {
        if (fibers[f].state != AT_BLOCK_BARRIER) continue;
        ++waiting;
        if (first < 0) first = f;
        same &= fibers[f].line == fibers[first].line;
    }
    if (!waiting || waiting < block->live) return;
    int line = fibers[first].line;
    emu_indices.thread = fibers[first].thread;
    if (waiting < n) say(3, line, "barrier that " + std::to_string(n - block->live) + " threads of the block have passed by" + at(line));
    if (!same) say(4, line, "threads of a block at different barriers" + at(line));
    for (unsigned f = 0; f < n; ++f)
        if (fibers[f].state == AT_BLOCK_BARRIER) fibers[f].state = READY;
    block->epoch = ++epochs;
    moved = true;
}

// In which order so many take their turns.
std::vector<unsigned> turns(size_t n) {
    std::vector<unsigned> sequence(n);
    for (size_t i = 0; i < n; ++i) sequence[i] = call->order == 1 ? n - 1 - i : i;
    return sequence;
}

void shuffle(std::vector<unsigned>& sequence) {
    if (call->order < 2) return;
    for (size_t i = sequence.size(); i > 1; --i) std::swap(sequence[i - 1], sequence[next_random() % i]);
}

// Runs the block until its threads are done or one waits for other blocks. False: a fault after which the kernel's results
// mean nothing.
bool run_fibers() {
    auto& fibers = block->fibers;
    std::vector<unsigned> sequence = turns(threads_of_block);
    while (block->live) {
        shuffle(sequence);
        bool moved = false;
        for (unsigned f : sequence) {
            if (fibers[f].state != READY) continue;
            moved = true;
            enter(f);
            if (fibers[f].state == DONE) --block->live;
        }
        for (unsigned w = 0; w < threads_of_block; w += 32)
            if (!step_warp(w, std::min(threads_of_block, w + 32), moved)) return false;
        step_block(moved);
        if (moved || !block->live) continue;
        if (block->is_waiting) return true;
        say(5, 0, "some threads of a block wait at its barrier, others at a warp operation, for ever");
        return false;
    }
    return true;
}

// Lets the blocks go on that wait at a counter to which all that it expects have come.
bool release_blocks() {
    bool released = false;
    for (Block& one : blocks) {
        auto is_there = [&](const Block& other) { return other.is_waiting && other.awaited == one.awaited; };
        if (!one.is_waiting || std::count_if(blocks.begin(), blocks.end(), is_there) < one.expected) continue;
        if (*one.awaited < one.value) continue;
        for (Block& other : blocks) {
            if (!is_there(other)) continue;
            if (*other.awaited > other.value) say(8, 0, "a wait for blocks that ends before all have come");
            other.fibers[other.waits.back().thread].state = READY;
            other.is_waiting = false;
            ++other.rounds;
        }
        released = true;
    }
    return released;
}

// Runs the blocks of a cooperative launch until all are done.
void take_turns() {
    std::vector<unsigned> sequence = turns(blocks.size());
    for (;;) {
        shuffle(sequence);
        bool live = false;
        for (unsigned i : sequence) {
            turn_to(blocks[i]);
            if (!run_fibers()) return;
            live |= block->live > 0;
        }
        if (!live) return;
        if (release_blocks()) continue;
        say(6, 0, "blocks wait for others for ever");
        return;
    }
}

// Runs all blocks of a cooperative launch in turns.
void run_together(uint32_t count) {
    if (!reserve(count)) return;
    for (uint32_t i = 0; i < count; ++i) begin(blocks[i], i);
    take_turns();
    for (Block& one : blocks)
        if (!one.live && one.awaited && *one.awaited) say(9, 0, "a counter that blocks have waited at is not back at zero");
    madvise(stacks_begin, stacks_end - stacks_begin, MADV_DONTNEED);
}

void run_plain() {
    for (unsigned i : turns(threads_of_block)) {
        current = i;
        emu_indices.thread = place(i);
        block->fibers[i].warp_epoch = 0;
        call->entry(call->arguments);
    }
}

void run_apart(uint32_t count) {
    if (!reserve(1)) return;
    for (uint32_t i = 0; i < count; ++i) {
        begin(blocks[0], call->order == 1 ? count - 1 - i : i);
        if (!call->fibred) run_plain();
        else if (!run_fibers()) return;
        else if (block->live) return say(6, 0, "a wait for other blocks in a launch that is not cooperative");
    }
}
} // namespace

uint64_t next_random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}
} // namespace emu

using namespace emu;

extern "C" unsigned char* emu_shared() { return block->shared; }
extern "C" int emu_lane() { return current % 32; }

extern "C" void emu_block_barrier(int line) {
    Fiber& me = block->fibers[current];
    me.state = AT_BLOCK_BARRIER;
    me.line = line;
    leave();
}

extern "C" void emu_warp(int line, int kind, void* data, void (*act)(void**)) {
    Fiber& me = block->fibers[current];
    me.state = AT_WARP_OPERATION;
    me.line = line;
    me.kind = kind;
    me.data = data;
    me.act = act;
    leave();
}

extern "C" void emu_wait_for_blocks(const unsigned* counter, unsigned value, unsigned count) {
    block->is_waiting = true;
    block->awaited = counter;
    block->value = value;
    block->expected = count;
    block->waits.push_back({block->epoch, current});
    block->fibers[current].state = AT_WAIT_FOR_BLOCKS;
    leave();
}

// Runs a launch and leaves what was found in the report.
extern "C" void emu_run(const Call* launch) {
    call = launch;
    random_state = 0x9e3779b97f4a7c15ull * (unsigned)(call->order + 1) | 1;
    const unsigned *grid = call->grid, *dim = call->block;
    threads_of_block = dim[0] * dim[1] * dim[2];
    shared_size = call->shared;
    emu_indices.grid_dim = {grid[0], grid[1], grid[2]};
    emu_indices.block_dim = {dim[0], dim[1], dim[2]};
    epochs = 0;
    begin_check(*call);
    uint32_t count = grid[0] * grid[1] * grid[2];
    call->cooperative ? run_together(count) : run_apart(count);
}
