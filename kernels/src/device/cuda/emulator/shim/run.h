// What the scheduler and the checker share.
#pragma once
#include "emu.h"
#include <string>
#include <vector>

namespace emu {

typedef void (*Entry)(void** arguments);

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_OPERATION, AT_WAIT_FOR_BLOCKS, DONE };

// A thread of a block.
struct Fiber {
    void* stack_pointer;
    State state;
    int line, kind;        // where it waits, and for which warp operation
    void* data;            // what it gives to the warp operation
    void (*act)(void**);
    uint3 thread;
    uint16_t warp_epoch;   // warp operations so far
};

// A wait of a block for other blocks.
struct Wait {
    uint32_t epoch;            // of the block when it came
    int thread;
};

// A block that is under way: the only one, or all of a cooperative launch.
struct Block {
    uint32_t number;
    std::vector<Fiber> fibers;
    unsigned char* shared;     // its shared memory
    uint32_t epoch;            // barriers and blocks so far, its last one
    unsigned live;             // threads that are not done
    bool is_waiting;           // for other blocks
    const unsigned* awaited;   // counter at which it waits, or has waited last
    unsigned value, expected;  // what the counter has to reach, how many blocks wait there
    std::vector<Wait> waits;   // so far
    uint16_t rounds;           // waits that it has left
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
    int cooperative; // all blocks are under way at once
    int order;     // of threads: 0 as numbered, 1 reversed, 2 and more at random with this seed
    int check;
    const Region* regions;
    size_t region_count;
    char* report;          // text
    size_t report_size;
};

extern std::vector<Block> blocks;      // those that are under way
extern Block* block;                   // the running one
extern int current;                    // its running thread
extern unsigned threads_of_block;
extern unsigned char *stacks_begin, *stacks_end;
extern size_t shared_size;

uint64_t next_random();
void begin_check(const Call& call);      // of a launch
void begin_block();                      // the running one
// One line a kind of fault and place of the code.
void say(int kind, uintptr_t where, const std::string& what);
}
