#include "ui/gui/theme.h"

#include <imgui_freetype.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

namespace vg::gui {

namespace {

constexpr ImU32 rgb(unsigned value, unsigned alpha = 255) {
    return IM_COL32(value >> 16 & 255, value >> 8 & 255, value & 255, alpha);
}

constexpr Theme kDark = {rgb(0x14171c), rgb(0x1b1f26),      rgb(0x242a33),     rgb(0x343c48), rgb(0xd7dce4),
                         rgb(0x8a94a3), rgb(0x6cb2f5),      rgb(0x5cc9a7),     rgb(0xf0b458), rgb(0xff8066),
                         rgb(0xffa94d), rgb(0x2d5b8a, 150), rgb(0xffffff, 18), rgb(0xffd166), rgb(0xffffff, 7)};
constexpr Theme kLight = {rgb(0xe4e7ec), rgb(0xfbfcfd),      rgb(0xeceff3),     rgb(0xc3cad4), rgb(0x1d242e),
                          rgb(0x66707e), rgb(0x0b5cad),      rgb(0x0b7a5c),     rgb(0x9a5b00), rgb(0xb3261e),
                          rgb(0xb34700), rgb(0x9cc4ee, 170), rgb(0x000000, 14), rgb(0xc98500), rgb(0x000000, 7)};
constexpr ImU32 kLanes[] = {rgb(0x5aa9e6), rgb(0xe69f00), rgb(0x2fb89a), rgb(0xd67ab1),
                            rgb(0x9ad0f5), rgb(0xe0673c), rgb(0xc9b63c), rgb(0x8c8cf0)};

/// Where distributions put DejaVu.
constexpr const char* kFontFolders[] = {"/usr/share/fonts/truetype/dejavu/", "/usr/share/fonts/TTF/",
                                        "/usr/share/fonts/dejavu/", "/usr/share/fonts/dejavu-sans-fonts/",
                                        "/usr/local/share/fonts/"};

std::string font_file(const char* name) {
    for (const char* folder : kFontFolders) {
        std::error_code error;
        std::string path = std::string(folder) + name;
        if (std::filesystem::exists(path, error)) return path;
    }
    return {};
}

/// Latin, Greek, Cyrillic, punctuation, arrows, mathematics, boxes, shapes.
constexpr ImWchar kRanges[] = {0x20,   0x17f,  0x370,  0x4ff,  0x2010, 0x205e, 0x2190, 0x21ff,
                               0x2200, 0x22ff, 0x2500, 0x25ff, 0xfffd, 0xfffd, 0};

}  // namespace

ImU32 Theme::of(desk::Tone tone) const {
    switch (tone) {
        case desk::Tone::Plain:
            return text;
        case desk::Tone::Quiet:
            return quiet;
        case desk::Tone::Good:
            return good;
        case desk::Tone::Warning:
            return warning;
        case desk::Tone::Bad:
            return bad;
        case desk::Tone::Accent:
            return accent;
    }
    return text;
}
ImU32 Theme::lane(std::size_t index) const { return kLanes[index % std::size(kLanes)]; }

const Theme& theme_named(const std::string& name) { return name == "light" ? kLight : kDark; }

void load_fonts(Look& look, float scale) {
    look.scale = scale;
    look.font_note.clear();
    ImFontAtlas& atlas = *ImGui::GetIO().Fonts;
    atlas.Clear();
    atlas.FontBuilderIO = ImGuiFreeType::GetBuilderForFreeType();
    atlas.FontBuilderFlags = ImGuiFreeTypeBuilderFlags_LightHinting;
    atlas.TexDesiredWidth = scale > 1.3F ? 2048 : 1024;
    atlas.Flags |= ImFontAtlasFlags_NoBakedLines;  // lines as plain rectangles: the renderer fills those fastest
    const std::string sans = font_file("DejaVuSans.ttf"), mono = font_file("DejaVuSansMono.ttf");
    ImFontConfig config;
    config.OversampleH = 1;
    config.PixelSnapH = true;
    look.sans = sans.empty() ? nullptr : atlas.AddFontFromFileTTF(sans.c_str(), 14.0F * scale, &config, kRanges);
    look.mono = mono.empty() ? nullptr : atlas.AddFontFromFileTTF(mono.c_str(), 13.0F * scale, &config, kRanges);
    if (!look.sans || !look.mono) {
        look.font_note = "DejaVu fonts were not found: install the package fonts-dejavu-core for readable text";
        config.SizePixels = 13.0F * scale;
        ImFont* own = atlas.AddFontDefault(&config);
        if (!look.sans) look.sans = own;
        if (!look.mono) look.mono = own;
    }
    atlas.Build();
    look.character = look.mono->GetCharAdvance('0');
    look.row = std::max(look.mono->FontSize, look.sans->FontSize) + 3.0F * scale;
    ImGui::GetIO().FontDefault = look.sans;
}

void apply(const Look& look, const std::string& theme) {
    ImGuiStyle style;
    if (theme == "light")
        ImGui::StyleColorsLight(&style);
    else
        ImGui::StyleColorsDark(&style);
    const Theme& t = look.theme;
    const auto set = [&style](ImGuiCol slot, ImU32 colour) {
        style.Colors[slot] = ImGui::ColorConvertU32ToFloat4(colour);
    };
    set(ImGuiCol_Text, t.text);
    set(ImGuiCol_TextDisabled, t.quiet);
    set(ImGuiCol_WindowBg, t.panel);
    set(ImGuiCol_ChildBg, 0);
    set(ImGuiCol_PopupBg, t.header);
    set(ImGuiCol_Border, t.line);
    set(ImGuiCol_FrameBg, t.header);
    set(ImGuiCol_FrameBgHovered, t.hover);
    set(ImGuiCol_MenuBarBg, t.window);
    set(ImGuiCol_Button, t.header);
    set(ImGuiCol_ButtonHovered, t.selection);
    set(ImGuiCol_ButtonActive, t.selection);
    set(ImGuiCol_Header, t.selection);
    set(ImGuiCol_HeaderHovered, t.selection);
    set(ImGuiCol_HeaderActive, t.selection);
    set(ImGuiCol_CheckMark, t.accent);
    set(ImGuiCol_Separator, t.line);
    set(ImGuiCol_PlotHistogram, t.accent);
    set(ImGuiCol_DragDropTarget, t.cursor);
    set(ImGuiCol_TextSelectedBg, t.selection);
    style.WindowPadding = {4, 4};
    style.FramePadding = {6, 3};
    style.ItemSpacing = {6, 3};
    style.WindowBorderSize = 0;
    style.ChildBorderSize = 0;
    style.PopupBorderSize = 1;
    style.WindowRounding = style.FrameRounding = style.PopupRounding = 0;  // rectangles are the fastest to fill
    style.ScrollbarRounding = style.GrabRounding = style.TabRounding = 0;
    style.AntiAliasedFill = false;
    style.AntiAliasedLines = false;
    style.ScaleAllSizes(look.scale);
    style.PopupBorderSize = 1;
    ImGui::GetStyle() = style;
}

}  // namespace vg::gui
