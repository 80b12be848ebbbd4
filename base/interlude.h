// How a long computation on a ThreadPool lets others have the pool in its
// midst, so that their short ones need not wait for its end.
//
// While a thread has an Interlude, its calls of ParallelFor ask Wanted() before
// they begin and after each task that the thread itself has run. When others
// are wanted in, no further task begins, those under way end, and Run() is
// called: the pool is free for others' calls until it returns. Then come the
// tasks that are left. What tasks compute does not depend on it.
#ifndef OUNCE_BASE_INTERLUDE_H_
#define OUNCE_BASE_INTERLUDE_H_

namespace ounce {

// Threads: the one that has it.
class Interlude {
 public:
  virtual ~Interlude() = default;
  // Called often: must be quick.
  virtual bool Wanted() = 0;
  // May block, and must not call ParallelFor itself.
  virtual void Run() = 0;
};

// The calling thread has `interlude` while this lives; one at a time.
class ScopedInterlude {
 public:
  explicit ScopedInterlude(Interlude& interlude);
  ~ScopedInterlude();
  ScopedInterlude(const ScopedInterlude&) = delete;
  ScopedInterlude& operator=(const ScopedInterlude&) = delete;
};

}  // namespace ounce

#endif  // OUNCE_BASE_INTERLUDE_H_
