// Choosing a file: folders and what is in them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ui/gui/widgets/rows.h"

namespace vg::gui {

class FileDialog {
  public:
    void open();
    /// Draws the dialog while it is open; the file that was chosen, once.
    std::optional<std::string> draw(const Look& look);

  private:
    struct Entry {
        std::string name;
        bool folder = false;
    };
    void list();
    bool wanted_ = false;
    std::filesystem::path folder_;
    std::vector<Entry> entries_;
    std::string path_, problem_;
    Scroll scroll_;
};

}  // namespace vg::gui
