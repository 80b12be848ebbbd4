// Notes below a table, for what its cells have no room for.
//
//   table.Add({"head", footnotes.Mark("left alone")});  // "[1]"
//   text = table.Text() + footnotes.Text();
#ifndef OUNCE_CLIENT_FOOTNOTES_H_
#define OUNCE_CLIENT_FOOTNOTES_H_

#include <string>
#include <vector>

namespace ounce::client {

class Footnotes {
 public:
  // What stands for the note in a cell: "[1]", the same one for the same note;
  // nothing for an empty one.
  std::string Mark(const std::string& note);

  // An empty line, and a line for each in the order of their marks; nothing
  // without any.
  std::string Text() const;

 private:
  std::vector<std::string> notes_;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_FOOTNOTES_H_
