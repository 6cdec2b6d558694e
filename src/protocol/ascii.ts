/** Lower case for A to Z only, as the contract matches words (03 §1.1): other letters that fold to ASCII stay apart. */
export function asciiLowerCase(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
