// Ownership of what a C library makes.
#ifndef OUNCE_BASE_FREE_BY_H_
#define OUNCE_BASE_FREE_BY_H_

namespace ounce {

// The deleter that calls a function: std::unique_ptr<X509, FreeBy<X509_free>>.
template <auto kFree>
struct FreeBy {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};

}  // namespace ounce

#endif  // OUNCE_BASE_FREE_BY_H_
