// What `ounce compare` measures all specs by: a text or pictures, how much of
// them at a time, and what a comparison tells of that.
#ifndef OUNCE_CLIENT_COMPARISON_SUBJECT_H_
#define OUNCE_CLIENT_COMPARISON_SUBJECT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/comparison.h"

namespace ounce::client {

// As they are given; 0 and what is empty are not.
struct SubjectFlags {
  std::string model;
  std::string text;      // a file, of a model that generates text
  std::string pictures;  // a folder, of one that detects objects
  uint32_t window = 0;
  uint32_t stride = 0;
  uint32_t tokens = 64;  // at least 1, as the prompt's
  uint32_t prompt = 32;
};

struct Subject {
  v1::Model model;
  // Of a model that generates text.
  std::string text;
  std::string text_name;     // as servers take it
  std::vector<int32_t> ids;  // the beginning of the text, for prompts
  int64_t window = 0;
  int64_t stride = 0;
  int64_t prompt_tokens = 0;  // at most ids.size()
  int64_t new_tokens = 0;
  // Of one that detects objects, else empty: bytes, at most 64.
  std::vector<std::string> pictures;
};

// Asks the server about the model and reads what it is measured on, into
// `subject`. Returns a comparison without results, whose settings are all that
// its figures hang on and whose notes say how to read them.
// Errors: of GetModel, GetServer and Tokenize; of ReadText, PicturesIn and
//   ReadPictures; kInvalidArgument for what is missing, superfluous or too many
//   for the model's task, or a text without tokens; kNotFound for a folder
//   without pictures; kFailedPrecondition for a model without a known task.
absl::StatusOr<Json> PrepareComparison(Client& client,
                                       const SubjectFlags& flags,
                                       Subject* subject);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COMPARISON_SUBJECT_H_
