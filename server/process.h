// What the process asks of its system.
#ifndef OUNCE_SERVER_PROCESS_H_
#define OUNCE_SERVER_PROCESS_H_

#include <cstdint>

namespace ounce::server {

// Freed memory goes back to the system, and none is spent on the order in which
// mutexes were taken; a peer or reader that is gone is an error and no signal,
// the soft limit of open files is raised to the hard one, and no connection
// takes the number of a stdout or stderr that is closed.
// First thing in main.
void SetUpProcess();

// The files and connections that may be open at the same time.
int64_t MaxOpenFiles();

// A random number of the system's. Any thread.
uint64_t DrawSeed();

}  // namespace ounce::server

#endif  // OUNCE_SERVER_PROCESS_H_
