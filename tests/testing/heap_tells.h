// Whether what the heap has in use is the code's own.
#ifndef OUNCE_TESTS_TESTING_HEAP_TELLS_H_
#define OUNCE_TESTS_TESTING_HEAP_TELLS_H_

namespace ounce::testing {

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kHeapTells = false;  // it is AddressSanitizer's
#else
inline constexpr bool kHeapTells = true;
#endif

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_HEAP_TELLS_H_
