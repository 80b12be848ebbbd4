// Work that must not slow down serving: loading and quantizing.
#ifndef OUNCE_SERVER_ENGINE_BACKGROUND_THREAD_H_
#define OUNCE_SERVER_ENGINE_BACKGROUND_THREAD_H_

#include <functional>

namespace ounce::server {

// Runs `work` on a thread of its own with low priority and waits for it.
//
// Linux gives a thread of 10 nice levels more about a tenth of the CPU time of
// a normal one that wants to run too, and all of it when none does. A thread of
// its own, because a process without privileges can't raise a priority again
// that it has lowered.
void RunInBackground(const std::function<void()>& work);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_BACKGROUND_THREAD_H_
