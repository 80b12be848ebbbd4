// What all AMX kernels need beside the intrinsics. For files that are compiled
// for AMX alone.
#ifndef OUNCE_QUANT_KERNELS_AMX_TILES_H_
#define OUNCE_QUANT_KERNELS_AMX_TILES_H_

#include <immintrin.h>

#include <cstdint>

namespace ounce::quant {

// What was stored before is there when tiles are loaded after: g++ 12 does not
// know that its intrinsics read memory.
inline void PublishStores() { asm volatile("" : : : "memory"); }

// Tile registers 0 to 5 take `rows` rows of 64 bytes, 6 and 7 sixteen: sums and
// inputs of so many rows, and weights.
inline void ConfigureTiles(int64_t rows) {
  struct alignas(64) {  // the operand of LDTILECFG
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t bytes_per_row[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes_per_row[tile] = 64;
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? rows : 16);
  }
  // Of the operand it takes only eight bytes for read, and would drop the other
  // stores.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_AMX_TILES_H_
