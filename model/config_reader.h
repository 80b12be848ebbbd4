// A config.json, read by the table of its config class's keys.
//
// Each architecture declares every key that transformers' config class has, and
// what becomes of it. So a value that changes the network and is not supported
// is refused by name, nothing is read that is not declared, and docs/models.md
// is written from the same table.
#ifndef OUNCE_MODEL_CONFIG_READER_H_
#define OUNCE_MODEL_CONFIG_READER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "nlohmann/json_fwd.hpp"
#include "quant/matmul.h"

namespace ounce::model {

// Bounds that no known model comes near; products of any three of these fit 64
// bits.
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxPositions = 1 << 20;
inline constexpr int64_t kMaxWidth = 1 << 16;
inline constexpr int64_t kMaxInner = 4 * kMaxWidth;  // of an MLP, of all heads
inline constexpr int64_t kMaxLayers = 1024;

struct ConfigKey {
  enum class Use {
    kRead,    // shapes the network
    kMustBe,  // has to have one of `values`; absent and null are fine too
    kUnused,  // is of training or of generation, or changes no result
  };
  std::string_view name;
  Use use = Use::kRead;
  // kMustBe: JSON values with '|' between. kRead: what is taken, for people, if
  // it is not all that the class takes.
  std::string_view values = "";
};

// The keys that every config class has beside its own: those of
// PretrainedConfig and a few of which every class has one.
absl::Span<const ConfigKey> CommonConfigKeys();

// Reads one after the other; the first error counts, and what is read after it
// has its default, so that a whole config is read before status() is asked.
//
// Threads: one at a time. Ownership: config and keys must outlive it.
// Errors, all in status(): kInvalidArgument for values that are no config of
//   this class, kUnimplemented for those that are not supported; each says what
//   the key must be and what it is, without the file.
class ConfigReader {
 public:
  // Checks the kMustBe keys, the common ones too.
  ConfigReader(const nlohmann::json& config, absl::Span<const ConfigKey> keys);

  const absl::Status& status() const { return status_; }
  // Adds an error of the caller's own; nothing if there is one already.
  void Fail(const absl::Status& error);

  // `key` (and where given its other name, an attribute_map of transformers)
  // is of the table. Absent: the default. null: an error, but for Optional...
  int64_t Int(std::string_view key, int64_t min, int64_t max, int64_t absent);
  int64_t Int(std::string_view key, std::string_view alias, int64_t min,
              int64_t max, int64_t absent);
  int64_t OptionalInt(std::string_view key, int64_t min, int64_t max,
                      int64_t absent);
  float Number(std::string_view key, double min, double max, double absent);
  bool Bool(std::string_view key, bool absent);
  // A function by the name that transformers' ACT2FN has for it; key "": of a
  // class that has no such key.
  quant::Activation Activation(std::string_view key, std::string_view absent);

  // Fails unless `value`, of `key`, is a multiple of `of`, of `of_key`.
  void CheckMultiple(std::string_view key, int64_t value,
                     std::string_view of_key, int64_t of);

  // For what is read elsewhere (model/decoder/rope_config.h).
  const nlohmann::json& json() const { return config_; }

 private:
  void CheckValues(absl::Span<const ConfigKey> keys);
  template <class T>
  T Take(const absl::StatusOr<T>& read, T instead);
  void CheckDeclared(std::string_view key) const;

  const nlohmann::json& config_;
  const absl::Span<const ConfigKey> keys_;
  absl::Status status_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CONFIG_READER_H_
