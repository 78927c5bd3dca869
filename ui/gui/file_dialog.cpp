#include "ui/gui/file_dialog.h"

#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>

namespace vg::gui {

namespace fs = std::filesystem;

namespace {
constexpr std::size_t kMaxEntries = 20'000;
}

void FileDialog::open() {
    wanted_ = true;
    std::error_code error;
    if (folder_.empty()) folder_ = fs::current_path(error);
    list();
}

void FileDialog::list() {
    entries_.clear();
    problem_.clear();
    scroll_ = {};
    std::error_code error;
    for (fs::directory_iterator it(folder_, fs::directory_options::skip_permission_denied, error), end;
         !error && it != end && entries_.size() < kMaxEntries; it.increment(error)) {
        const std::string name = it->path().filename().string();
        std::error_code ignored;
        if (!name.empty() && name[0] != '.') entries_.push_back({name, it->is_directory(ignored)});
    }
    if (error) problem_ = folder_.string() + ": " + error.message();
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.folder != b.folder ? a.folder : a.name < b.name; });
    if (folder_.has_parent_path() && folder_ != folder_.root_path()) entries_.insert(entries_.begin(), {"..", true});
}

std::optional<std::string> FileDialog::draw(const Look& look) {
    if (wanted_) ImGui::OpenPopup("Open");
    wanted_ = false;
    const ImVec2 size(70 * look.character, 26 * look.row);
    ImGui::SetNextWindowSize(size);
    ImGui::SetNextWindowPos(ImGui::GetMainViewport()->GetCenter(), ImGuiCond_Always, {0.5F, 0.5F});
    if (!ImGui::BeginPopupModal("Open", nullptr, ImGuiWindowFlags_NoResize | ImGuiWindowFlags_NoMove)) return {};
    std::optional<std::string> chosen;
    heading(look, "a machine (.toml), recording or snapshot; or unix:SOCKET of a machine that runs with --control");
    ImGui::SetNextItemWidth(-1);
    if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
    if (ImGui::InputTextWithHint("##path", folder_.string().c_str(), &path_, ImGuiInputTextFlags_EnterReturnsTrue) &&
        !path_.empty()) {
        const bool absolute = path_[0] == '/' || path_.rfind("unix:", 0) == 0;
        chosen = absolute ? path_ : (folder_ / path_).string();
    }
    if (!problem_.empty()) note(look, problem_, desk::Tone::Warning);
    std::optional<fs::path> enter;
    {
        const Rows rows(look, "files", entries_.size(), scroll_, -ImGui::GetFrameHeightWithSpacing());
        for (u64 i = rows.first(); i < rows.last(); ++i) {
            if (rows.hovered() == i) rows.fill(i, look.theme.hover);
            const bool machine =
                entries_[i].name.size() > 5 && entries_[i].name.rfind(".toml") == entries_[i].name.size() - 5;
            rows.text(i, look.character,
                      entries_[i].folder ? look.theme.accent
                      : machine          ? look.theme.text
                                         : look.theme.quiet,
                      desk::shown(entries_[i].name, 200) + (entries_[i].folder ? "/" : ""));
        }
        if (const auto row = rows.clicked()) {
            if (entries_[*row].folder)
                enter = entries_[*row].name == ".." ? folder_.parent_path() : folder_ / entries_[*row].name;
            else
                path_ = (folder_ / entries_[*row].name).string();
        }
        if (const auto row = rows.double_clicked(); row && !entries_[*row].folder)
            chosen = (folder_ / entries_[*row].name).string();
    }
    if (enter) {
        folder_ = *enter;
        list();
    }
    if (ImGui::Button("Open") && !path_.empty()) chosen = path_;
    ImGui::SameLine();
    const bool cancel = ImGui::Button("Cancel") || ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape));
    if (chosen || cancel) ImGui::CloseCurrentPopup();
    ImGui::EndPopup();
    return chosen;
}

}  // namespace vg::gui
