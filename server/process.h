// What the process asks of its system.
#ifndef OUNCE_SERVER_PROCESS_H_
#define OUNCE_SERVER_PROCESS_H_

#include <cstdint>

namespace ounce::server {

// The log goes to stderr; freed memory goes back to the system. First thing in
// main.
void SetUpProcess();

// A random number of the system's. Any thread.
uint64_t DrawSeed();

}  // namespace ounce::server

#endif  // OUNCE_SERVER_PROCESS_H_
