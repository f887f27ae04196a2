#!/usr/bin/env bash
# The installed folder works after it was moved, uses no library of the folders it was built in, and of the system only what
# the packages in the container's recipe bring; the recipe itself is well formed.
#   installed_program.sh BUILD_FOLDER SOURCE_FOLDER CMAKE
set -euo pipefail
export LC_ALL=C

build=$1 source=$2 cmake=$3
recipe=$source/launch/container/Containerfile
work=$(mktemp -d "$build/installed-XXXXXX")
trap 'rm -rf "$work"' EXIT
wrong=0
complain() {
  printf 'wrong: %s\n' "$*"
  wrong=1
}

# What the last stage installs, one name a line.
packages() {
  sed -n '/^FROM debian:12-slim/,$p' "$recipe" | sed -n '/apt-get install/,/rm -rf/p' | grep -oE '^ +lib[a-z0-9.+-]+' | tr -d ' '
}

check_recipe() {
  local line copied
  # Instructions begin a line; a line that follows a backslash belongs to the one before.
  while IFS= read -r line; do
    [[ $line =~ ^(FROM|RUN|COPY|WORKDIR|USER|ENV|ENTRYPOINT|CMD)\  ]] || complain "recipe: no instruction: $line"
  done < <(sed -e ':join' -e '/\\$/{' -e 'N' -e 's/\\\n//' -e 'b join' -e '}' "$recipe" | grep -vE '^(#|$)')
  [ "$(grep -E '^USER ' "$recipe" | tail -n 1)" != "USER root" ] && grep -q '^USER ' "$recipe" || complain "recipe: runs as root"
  grep -qE '^ENTRYPOINT \["ferro"\]$' "$recipe" || complain "recipe: does not start ferro"
  for copied in launch/setup.sh CMakePresets.json; do [ -e "$source/$copied" ] || complain "recipe: uses $copied"; done
  [ "$(packages | wc -l)" -gt 5 ] || complain "recipe: no list of packages found"
}

# The package of a library; dpkg may know it with or without /usr.
owner() {
  local file
  for file in "$1" "${1#/usr}" "/usr${1#/usr}" "$(readlink -f "$1")"; do
    dpkg-query -S "$file" 2>/dev/null && return
  done | head -n 1 | cut -d: -f1
}

# What a file asks for directly and the loader finds outside the folder: the package that owns it must be in the recipe.
check_libraries() {
  local file name path package
  while IFS= read -r file; do
    for name in $(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
      path=$(ldd "$file" | awk -v name="$name" '$1 == name { print $3 }')
      [ "$path" != not ] || { complain "$file lacks $name"; continue; }
      case $path in
        "" | "$work"/*) continue ;;
        "$source"/* | "$build"/*) complain "$file takes $name from where it was built: $path"; continue ;;
      esac
      package=$(owner "$path")
      case $package in libc6 | libgcc-s1) continue ;; esac
      packages | grep -qxF "$package" || complain "recipe: lacks the package $package, which has $name for ${file##*/}"
    done
  done < <(find "$work/moved/bin" "$work/moved/lib" -type f)
}

"$cmake" --install "$build" --prefix "$work/here" >/dev/null
mv "$work/here" "$work/moved"
check_recipe
check_libraries

cd "$work"
ferro=$work/moved/bin/ferro
"$ferro" --help >/dev/null
"$ferro" data faces --out faces --count 24 --seed 1 >/dev/null
"$ferro" model init --preset tiny --tokenizer-text faces/sft.json --vocab-size 400 --out base >/dev/null
cat >c.yaml <<'YAML'
model_name_or_path: base
output_dir: run
max_steps: 2
data: {train_file: faces/sft.json}
YAML
"$ferro" train sft -c c.yaml >/dev/null 2>train.log || { cat train.log; complain "training failed"; }
"$ferro" model inspect run/model >/dev/null
"$ferro" config check "$work/moved/share/ferro/configs/quickstart_sft.yaml" >/dev/null
[ "$wrong" -eq 0 ] && echo "the installed folder works where it was moved to"
exit "$wrong"
