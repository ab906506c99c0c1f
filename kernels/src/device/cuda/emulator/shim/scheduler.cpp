// Runs a grid: blocks one after another, the threads of a block as fibers that switch at barriers.
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
std::vector<Fiber> fibers;
int current = -1;
unsigned threads_of_block;
uint32_t block_number, block_epoch;
unsigned char *shared_begin, *stacks_begin, *stacks_end;
size_t shared_size;

namespace {
const size_t STACK = 256 << 10;
std::vector<unsigned char> shared_memory;
void* scheduler_stack;
const Call* call;
uint64_t random_state;

void start() {
    call->entry(call->arguments);
    Fiber& me = fibers[current];
    me.state = DONE;
    emu_switch(&me.stack_pointer, scheduler_stack);
    abort(); // a fiber that is done is never entered
}

void leave() {
    Fiber& me = fibers[current];
    emu_switch(&me.stack_pointer, scheduler_stack);
}

void enter(int fiber) {
    current = fiber;
    emu_indices.thread = fibers[fiber].thread;
    emu_switch(&scheduler_stack, fibers[fiber].stack_pointer);
}

uint3 place(unsigned thread) {
    const unsigned* dim = call->block;
    return {thread % dim[0], thread / dim[0] % dim[1], thread / dim[0] / dim[1]};
}

void make_fibers(unsigned n) {
    if (stacks_begin + n * STACK > stacks_end) {
        if (stacks_begin) munmap(stacks_begin, stacks_end - stacks_begin);
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stacks_begin = (unsigned char*)mmap(nullptr, n * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (stacks_begin == MAP_FAILED) abort();
        stacks_end = stacks_begin + n * STACK;
    }
    for (unsigned i = 0; i < n; ++i) {
        void** top = (void**)(stacks_begin + (i + 1) * STACK);
        *--top = nullptr; // the alignment that a call leaves
        *--top = (void*)start;
        for (int registers = 0; registers < 6; ++registers) *--top = nullptr;
        fibers[i] = Fiber{top, READY, 0, 0, nullptr, nullptr, place(i), 0};
    }
}

std::string at(int line) { return ", line " + std::to_string(line); }

// Lets a warp go on whose lanes have all come to the same operation. False: the block cannot go on.
bool step_warp(unsigned begin, unsigned end, bool& moved) {
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
void step_block(unsigned n, unsigned live, bool& moved) {
    unsigned waiting = 0;
    bool same = true;
    int first = -1;
    for (unsigned f = 0; f < n; ++f) {
        if (fibers[f].state != AT_BLOCK_BARRIER) continue;
        ++waiting;
        if (first < 0) first = f;
        same &= fibers[f].line == fibers[first].line;
    }
    if (!waiting || waiting < live) return;
    int line = fibers[first].line;
    emu_indices.thread = fibers[first].thread;
    if (waiting < n) say(3, line, "barrier that " + std::to_string(n - live) + " threads of the block have passed by" + at(line));
    if (!same) say(4, line, "threads of a block at different barriers" + at(line));
    for (unsigned f = 0; f < n; ++f)
        if (fibers[f].state == AT_BLOCK_BARRIER) fibers[f].state = READY;
    ++block_epoch;
    moved = true;
}

// False: a fault after which the kernel's results mean nothing.
bool run_fibers(unsigned n) {
    make_fibers(n);
    std::vector<unsigned> sequence(n);
    for (unsigned i = 0; i < n; ++i) sequence[i] = call->order == 1 ? n - 1 - i : i;
    for (unsigned live = n; live;) {
        if (call->order > 1)
            for (unsigned i = n; i > 1; --i) std::swap(sequence[i - 1], sequence[next_random() % i]);
        bool moved = false;
        for (unsigned f : sequence) {
            if (fibers[f].state != READY) continue;
            moved = true;
            enter(f);
            if (fibers[f].state == DONE) --live;
        }
        for (unsigned w = 0; w < n; w += 32)
            if (!step_warp(w, std::min(n, w + 32), moved)) return false;
        step_block(n, live, moved);
        if (!moved && live) {
            say(5, 0, "some threads of a block wait at its barrier, others at a warp operation, for ever");
            return false;
        }
    }
    return true;
}

void run_plain(unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
        current = call->order == 1 ? n - 1 - i : i;
        emu_indices.thread = place(current);
        fibers[current].warp_epoch = 0;
        call->entry(call->arguments);
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

extern "C" unsigned char* emu_shared() { return shared_begin; }
extern "C" int emu_lane() { return current % 32; }

extern "C" void emu_block_barrier(int line) {
    Fiber& me = fibers[current];
    me.state = AT_BLOCK_BARRIER;
    me.line = line;
    leave();
}

extern "C" void emu_warp(int line, int kind, void* data, void (*act)(void**)) {
    Fiber& me = fibers[current];
    me.state = AT_WARP_OPERATION;
    me.line = line;
    me.kind = kind;
    me.data = data;
    me.act = act;
    leave();
}

// Runs a launch and leaves what was found in the report.
extern "C" void emu_run(const Call* launch) {
    call = launch;
    random_state = 0x9e3779b97f4a7c15ull * (unsigned)(call->order + 1) | 1;
    const unsigned *grid = call->grid, *block = call->block;
    threads_of_block = block[0] * block[1] * block[2];
    if (fibers.size() < threads_of_block) fibers.resize(threads_of_block);
    shared_size = call->shared;
    shared_memory.resize(shared_size + 3 * 4096);
    shared_begin = (unsigned char*)(((uintptr_t)shared_memory.data() + 4096 + 1023) & ~uintptr_t(1023));
    emu_indices.grid_dim = {grid[0], grid[1], grid[2]};
    emu_indices.block_dim = {block[0], block[1], block[2]};
    block_epoch = 1;
    begin_check(*call);
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    for (uint64_t i = 0; i < blocks; ++i) {
        block_number = call->order == 1 ? blocks - 1 - i : i;
        emu_indices.block = {block_number % grid[0], block_number / grid[0] % grid[1], block_number / grid[0] / grid[1]};
        memset(shared_begin, 0xff, shared_size); // NaN, and far out as an index
        ++block_epoch;
        begin_block();
        if (!call->fibred) run_plain(threads_of_block);
        else if (!run_fibers(threads_of_block)) break;
    }
}
