// What the scheduler and the checker share.
#pragma once
#include "emu.h"
#include <string>
#include <vector>

namespace emu {

typedef void (*Entry)(void** arguments);

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_OPERATION, DONE };

// A thread of the running block.
struct Fiber {
    void* stack_pointer;
    State state;
    int line, kind;        // where it waits, and for which warp operation
    void* data;            // what it gives to the warp operation
    void (*act)(void**);
    uint3 thread;
    uint16_t warp_epoch;   // warp operations so far
};

// A buffer that the kernel is given.
struct Region {
    unsigned char *begin, *end;
    int writable, argument;
};

// One launch, as Rust lays it out (emulator/library.rs).
struct Call {
    Entry entry;
    void** arguments;
    unsigned grid[3], block[3];
    size_t shared;
    int fibred;    // has barriers or warp operations
    int order;     // of threads: 0 as numbered, 1 reversed, 2 and more at random with this seed
    int check;
    const Region* regions;
    size_t region_count;
    char* report;          // text
    size_t report_size;
};

extern std::vector<Fiber> fibers;
extern int current;                      // running thread of the block
extern unsigned threads_of_block;
extern uint32_t block_number, block_epoch; // epoch: barriers and blocks so far
extern unsigned char *shared_begin, *stacks_begin, *stacks_end;
extern size_t shared_size;

uint64_t next_random();
void begin_check(const Call& call);      // of a launch
void begin_block();
// One line a kind of fault and place of the code.
void say(int kind, uintptr_t where, const std::string& what);
}
