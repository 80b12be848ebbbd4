// Gives the heap back to the system after large requests. glibc keeps what was
// freed for the next one, and for a server that once got a few messages of
// 30 MiB that would be hundreds of megabytes for good.
//
// Threads: any thread may call Note. One thread of its own trims, at most once
//   per interval and only while there was something to give back.
#ifndef OUNCE_SERVER_SERVICE_HEAP_TRIMMER_H_
#define OUNCE_SERVER_SERVICE_HEAP_TRIMMER_H_

#include <cstddef>
#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace ounce::server {

class HeapTrimmer {
 public:
  // `trim` is called on the trimmer's thread.
  explicit HeapTrimmer(absl::Duration interval = absl::Seconds(1),
                       std::function<void()> trim = &HeapTrimmer::TrimHeap);
  ~HeapTrimmer();
  HeapTrimmer(const HeapTrimmer&) = delete;
  HeapTrimmer& operator=(const HeapTrimmer&) = delete;

  // A request of so many bytes has been read: what it takes will be free soon.
  // Small ones don't count.
  void Note(size_t bytes);

 private:
  static void TrimHeap();
  void Loop();

  const absl::Duration interval_;
  const std::function<void()> trim_;
  Mutex mu_;
  CondVar wake_;
  int rounds_ ABSL_GUARDED_BY(mu_) = 0;  // that are still to come
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_HEAP_TRIMMER_H_
