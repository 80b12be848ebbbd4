// How a model of the Hugging Face hub is written: ORG/NAME[@REVISION].
#ifndef OUNCE_HUB_MODEL_NAME_H_
#define OUNCE_HUB_MODEL_NAME_H_

#include <optional>
#include <string>
#include <string_view>

namespace ounce::hub {

// Of parts that can neither leave a folder nor be taken for an option of a
// command line.
struct ModelName {
  std::string id;                 // "org/name"; "name" for a few old models
  std::string revision = "main";  // a branch, a tag, or a commit of 40 digits
  bool revision_given = false;
};

// Nothing for what is no such name.
std::optional<ModelName> ParseModelName(std::string_view text);

// 40 hexadecimal digits.
bool IsCommit(std::string_view text);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_MODEL_NAME_H_
