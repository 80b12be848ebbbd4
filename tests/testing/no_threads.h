// A machine on which no thread can be had.
#ifndef OUNCE_TESTS_TESTING_NO_THREADS_H_
#define OUNCE_TESTS_TESTING_NO_THREADS_H_

#include <pthread.h>

#include <cstddef>

namespace ounce::testing {

// While it lives no thread can be had: none's stack fits the address space.
class NoThreads {
 public:
  NoThreads() {
    pthread_getattr_default_np(&before_);
    pthread_attr_t huge;
    pthread_attr_init(&huge);
    pthread_attr_setstacksize(&huge, size_t{1} << 47);
    pthread_setattr_default_np(&huge);
    pthread_attr_destroy(&huge);
  }
  ~NoThreads() { pthread_setattr_default_np(&before_); }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  pthread_attr_t before_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_NO_THREADS_H_
