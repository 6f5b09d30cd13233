/**
 * Which letters look alike, as data: one character of a name (in NFD) and the prototype it is drawn like. It decides
 * nothing; `name.ts` builds skeletons from it.
 *
 * Source: confusables.txt of Unicode 15.0.0 (UTS #39, section 4), cut down to the characters that a name may hold and
 * closed, so that no prototype holds a character that has one itself. Three changes, each because names are in lower case:
 * prototypes are lower-cased; a prototype that begins with `rn` has `m` instead; U+04CF looks like `l`, which is how the
 * fonts of today draw it, not like `i`. The file's own rows for ASCII (`0` `1` and `m`) are left out: see `nameSkeleton`.
 *
 * Copyright © 1991-2022 Unicode, Inc. Used under the Unicode License; its text is in `docs/licenses/unicode.txt`.
 */

/** `character:prototype`, code points in hex, those of a prototype joined by `+`. */
const ROWS = [
  // Latin
  'e6:61+65 f0:2202+335 f8:6f+338 111:64+335 127:68+335 131:69 142:6c+338 153:6f+65 167:74+335 180:62+335 183:62+304',
  '18c:64+304 18d:67 192:66+326 199:6b+314 19a:6c+335 19e:6e+329 1a5:70+314 1ad:74+314 1b4:79+314 1b6:7a+335',
  '1bb:32+335 1bd:73 1bf:fe 1c0:6c 1c1:6c+6c 1c3:21 1e5:67+335 223:38 225:7a+326 23c:63+338 247:65+338 249:6a+335',
  '24d:72+335 24f:79+335 251:61 253:62+314 256:64+328 257:64+314 259:1dd 25a:1dd+2de 25b:a793 260:67+314 261:67',
  '263:79 266:68+314 268:69+335 269:69 26a:69 26b:6c+334 26d:6c+328 26e:6c+21d 26f:77 271:6d+326 273:6e+328',
  '275:6f+335 276:6f+1d07 27c:72+329 27d:72+328 282:73+328 28b:75 28f:79 290:7a+328 292:21d 294:3f 2a0:71+314',
  '2a3:64+7a 2a4:64+21d 2a5:64+291 2a6:74+73 2a7:74+283 2a8:74+255 2a9:66+14b 2aa:6c+73 2ab:6c+7a 305:304 30c:306',
  '30d:670 310:306+307 311:302 358:307 366:30a 36e:306 952:331 1d04:63 1d08:25c 1d0b:138 1d0d:28d 1d0f:6f 1d10:254',
  '1d11:6f 1d14:1dd+6f 1d1c:75 1d20:76 1d21:77 1d22:7a 1d24:1a8 1d6b:75+65 1d6e:66+334 1d6f:6d+334 1d70:6e+334',
  '1d72:72+334 1d73:27e+334 1d74:73+334 1d75:74+334 1d76:7a+334 1d7b:69+335 1d7c:69+335 1d7d:70+335 1d7e:75+335',
  '1d7f:28a+335 1d83:67 1d8c:79 1d90:24b 1e9d:66 1eff:79 2184:254 a729:74+21d a731:73 a733:61+61 a735:61+6f',
  'a737:61+75 a739:61+76 a73b:61+76 a73d:61+79 a74b:6f+335 a74f:6f+6f a761:77+326 a76b:21d a777:74+66 a778:26',
  'a78c:27 a78f:b7 a795:a727 a799:66 a79b:1043a a79d:29a a79f:75 a7b5:df a7b7:3c9 a7f7:30fc ab32:65 ab35:66 ab3d:6f',
  'ab3e:6f+338 ab3f:254+338 ab41:1dd+6f+338 ab42:1dd+6f+335 ab47:72 ab48:72 ab4d:283 ab4e:75 ab52:75 ab53:3c7',
  'ab55:3c7 ab5a:79 ab60:459 ab62:254+65 ab63:75+6f',
  // Greek
  '342:303 377:1d0e 37b:254 37d:a73f 3b1:61 3b2:df 3b3:79 3b4:1e9f 3b5:a793 3b7:6e+329 3b8:6f+335 3b9:69 3ba:138',
  '3bd:76 3bf:6f 3c1:70 3c3:6f 3c4:1d1b 3c5:75 3c6:278 3db:3c2 3f3:6a 3f8:fe 1d26:72 1d27:28c 1d28:3c0 1d29:1d18',
  // Cyrillic
  '430:61 431:36 432:299 433:72 435:65 437:25c 438:1d0e 43a:138 43c:28d 43d:29c 43e:6f 43f:3c0 440:70 441:63',
  '442:1d1b 443:79 444:278 445:78 44a:2c9+62 44b:185+69 44c:185 44f:1d19 454:a793 455:73 456:69 458:6a 45b:68+335',
  '461:77 463:62+335 471:3c8 473:6f+335 475:76 47d:77+486+487 48b:1d0e+326+306 48d:62+335 491:72+27 493:72+335',
  '497:436+329 499:25c+326 49b:138+329 49f:138+335 4a3:29c+329 4ab:63+326 4ad:1d1b+329 4af:79 4b1:79+335 4bb:68',
  '4bd:65 4bf:65+328 4c6:43b+326 4c8:29c+326 4ca:29c+326 4cc:4b7 4ce:28d+326 4cf:6c 4d5:61+65 4d9:1dd 4e1:21d',
  '4e9:6f+335 501:64 50d:262 511:a793 51b:71 51d:77 1d2b:43b 2de8:1ddf 2dea:30a 2ded:368 2def:36f 2df6:363 2df7:364',
  'a645:1a8 a647:69 a64d:3c9 a651:2c9+62+69 a66f:20e9 a67c:306 a695:68+314 a699:6f+6f',
  // Armenian
  '561:77 563:71 566:71 56e:1e9f 570:68 575:237 578:6e 57a:270 57c:6e 57d:75 581:67 584:66 585:6f',
  // Georgian
  '10e7:79 10f3:21d 10ff:6f',
  // Hebrew
  '59c:301 59d:301 5a4:59a 5a8:599 5ad:596 5ae:598 5af:30a 5b4:323 5b9:307 5ba:307 5c1:307 5c2:307 5c4:307 5c5:323',
  '5d5:6c 5d8:76 5d9:27 5df:6c 5e1:6f 5f0:6c+6c 5f1:6c+27 5f2:27+27',
  // Arabic
  '618:301 619:313 61a:650 627:6c 62b:649+6db 634:633+6db 63d:649+302 63f:649+6db 647:6f 64a:649 64b:30b 64e:301',
  '64f:313 652:30a 653:303 656:329 657:312 658:306 659:304 65a:306 65b:302 65c:323 65d:314 65f:655 660:2e 661:6c',
  '665:6f 667:76 668:28c 66e:649 66f:6a1 672:6c+674 673:6c+655 679:649+615 67e:649+6db 681:62d+654 685:62d+6db',
  '688:62f+615 68b:68a+615 68e:62f+6db 691:631+615 692:631+306 698:631+6db 69e:635+6db 69f:637+6db 6a4:6a1+6db',
  '6a7:641 6a8:6a1+6db 6a9:643 6aa:643 6ad:643+6db 6b4:6af+6db 6b5:644+306 6b7:644+6db 6ba:649 6bb:649+615',
  '6bd:649+6db 6be:6f 6c1:6f 6c3:629 6c6:648+306 6c7:648+313 6c8:648+670 6c9:648+302 6cb:648+6db 6cc:649 6ce:649+306',
  '6d0:67b 6d1:649+6db 6d2:649 6d5:6f 6df:30a 6e8:306+307 6ec:307 6ee:62f+302 6ef:631+302 6f0:2e 6f1:6c 6f2:662',
  '6f3:663 6f4:664 6f5:6f 6f6:666 6f7:76 6f8:28c 6f9:669 6ff:6f+302 751:628+6db 756:649+306 762:6ac 763:643+6db',
  '767:754 768:646+615 769:646+306 76c:631+654 771:697+615 772:62d+654 77e:633+302 8a1:628+654 8a4:6a2+6db',
  '8a7:645+6db 8a8:649+654 8a9:754 8ae:62f+324+323 8af:635+324+323 8b0:6af 8b1:648 8b2:632+302 8b6:628+6e2',
  '8b7:649+6db+6e2 8b9:631+306+307 8ba:649+306+307 8bb:6a1 8bc:6a1 8bd:649 8e5:64c 8e8:64c 8ea:307 8eb:308 8ed:323',
  '8ee:324 8f0:30b 8f1:64c 8f2:64d 8f3:313 8f8:350 8f9:354 8fa:355 8ff:350',
  // Devanagari
  '900:352 901:306+307 902:307 903:3a 904:905+946 906:905+93e 908:930+94d+907 90d:90f+945 90e:90f+946 910:90f+947',
  '911:905+949 912:905+93e+946 913:905+93e+947 914:905+93e+948 93c:323 966:6f 967:669 97d:3f 1cd0:302 1cd2:304',
  '1cd5:32b 1cd8:32e 1cd9:32d 1cda:30e 1cdc:329 1cdd:323 1cde:324 1ced:316',
  // Bengali
  '981:306+307 986:985+9be 9bc:323 9e0:98b+9c3 9e1:98b+9c3 9e6:6f 9ea:38 9ed:39',
  // Gurmukhi
  'a02:307 a03:983 a06:a05+a3e a07:a72+a3f a08:a72+a40 a09:a73+a41 a0a:a73+a42 a0f:a72+a47 a10:a05+a48 a14:a05+a4c',
  'a3c:323 a4b:946 a4d:94d a66:6f a67:39 a6a:38',
  // Gujarati
  'a81:306+307 a82:307 a83:3a a86:a85+abe a8d:a85+ac5 a8f:a85+ac7 a90:a85+ac8 a91:a85+abe+ac5 a93:a85+abe+ac7',
  'a94:a85+abe+ac8 abc:323 abd:93d ac1:941 ac2:942 acd:94d ae6:6f ae8:968 ae9:969 aea:96a aee:96e',
  // Oriya
  'b01:306+307 b03:38 b06:b05+b3e b20:6f b3c:323 b66:6f b68:39',
  // Tamil
  'b82:30a b8a:b89+bb3 b9c:b90 bb0:b88 bbe:b88 bc8:ba9 bcd:307 bd7:bb3 be6:6f be7:b95 be8:b89 bea:b9a beb:b88+bc1',
  'bec:b9a+bc1 bed:b8e bee:b85',
  // Telugu
  'c00:306+307 c02:6f c03:983 c13:c12+c55 c14:c12+c4c c20:c30+5bc c22:c21+323 c25:c27+5bc c2d:c2c+323 c2e:c35+c41',
  'c37:c35+323 c39:c35+c3e c42:c41+c3e c44:c43+c3e c60:c0b+c3e c61:c0c+c3e c66:6f',
  // Kannada
  'c81:306+307 c82:6f c83:983 c85:c05 c86:c06 c87:c07 c92:c12 c93:c12+c55 c94:c12+c4c c9c:c1c c9e:c1e ca3:c23',
  'caf:c2f cb1:c31 cb2:c32 ce1:c8c+cbe ce6:6f ce7:c67 ce8:c68 cef:c6f',
  // Malayalam
  'd01:306+307 d02:6f d03:983 d08:d07+d57 d09:b89 d0a:b89+d57 d0c:d28+d41 d10:d0e+d46 d13:d12+d3e d14:d12+d57',
  'd19:d28+d41 d1c:b90 d20:6f d23:ba3 d31:d30 d34:bb4 d36:bb6 d3a:b9f+bbf d3f:bbf d40:bbf d42:d41 d43:d41',
  'd48:d46+d46 d4e:971 d5f:6f+d30+6f d61:d1e d66:6f d6a:d30+d4d d6b:d26+d4d+d30 d6c:d28+d4d+d28 d6d:39',
  'd6e:d35+d4d+d30 d6f:d28+d4d d7b:d28+d4d d7c:d30+d4d',
  // Sinhala
  'd82:6f d83:983 de9:de8+dcf dea:da2 deb:daf def:de8+dd3',
  // Thai
  'e03:e02 e0b:e0a e0f:e0e e14:e04 e15:e04 e17:e11 e21:e06 e26:e20 e41:e40+e40 e45:e32 e4d:30a e50:6f',
  // Lao
  'e88:e08 e8d:e22 e9a:e1a e9b:e1b e9d:e1d e9e:e1e e9f:e1f eb8:e38 eb9:e39 ec8:e48 ec9:e49 eca:e4a ecb:e4b ecd:30a',
  'ed0:6f',
  // Tibetan
  'f00:f68+f7c+f7e f37:325 f6a:f62',
  // Myanmar
  '1000:1002+102c 1010:6f+102c 101d:6f 101f:1015+102c 1029:101e+103c 102a:101e+103c+1031+102c+103a 1036:30a 1038:983',
  '1040:6f 1065:1041 1066:1015+103e 106f:1015+102c+103e 1070:1003+103e 107e:107d+103e 1081:1002+103e',
  // Khmer
  '17a3:17a2 17b7:e34 17b8:e35 17b9:e36 17ba:e37 17c6:30a 17cb:e48 17d3:30a',
  // Ethiopic
  '1200:75 1223:270 1240:278 1260:6e 1294:571 12d0:6f',
  // Han
  '302c:309 302d:325 39b3:363d 439b:3588 4420:3b3b 4e00:30fc 4e36:5c 4e3f:2f 5002:4f75 503c:5024 555f:5553 56d7:53e3',
  '586b:5861 58eb:571f 58ff:58ab 5b00:5aaf 5e32:5e21 5e50:3b3a 6238:6236 6409:3a41 6663:403f 6669:665a 66f6:3ada',
  '6726:4443 67ff:676e 69e9:3ba3 6a27:699d 6f59:6e88 784f:7814 7d76:7d55 80a6:670c 80ca:6710 80d0:670f 80f6:3b35',
  '8101:6713 8127:6718 8141:80fc 81a7:6723 853f:848d 8641:8637 8a1e:46b6 8a7d:8a2e 8b8f:8b86 8c63:8c5c 8d86:8d7f',
  '8dfa:8de5 8e9b:8e97 8f27:8eff 90de:90ce 93ae:93ad 96b8:96b7 9e43:9e42 9ed2:9ed1 9fc3:4039 21fe8:276c',
  // Hiragana
  '3033:2f 304f:276c 309a:30a',
  // Katakana
  '30a4:4ebb 30a8:5de5 30ab:529b 30bf:5915 30c8:535c 30cb:4e8c 30ce:2f 30cf:516b 30d8:3078 30ed:53e3',
  // Inherited marks
  '315:313 317:650 320:331 321:326 322:328 327:326 336:335 337:338 339:326 347:333 357:350 953:300 954:301 1ab4:6db',
  '1ab7:328 1dee:2dec 20db:6db',
] as const

let read: ReadonlyMap<string, string> | undefined

/** The prototype of each character that has one other than itself. Read at the first name that needs it: most processes see none. */
export function confusables(): ReadonlyMap<string, string> {
  return read ??= new Map(ROWS.flatMap(row => row.split(' ')).map(entry => {
    const [character = '', prototype = ''] = entry.split(':')
    return [codePoints(character), codePoints(prototype)]
  }))
}

function codePoints(hex: string): string {
  return String.fromCodePoint(...hex.split('+').map(digits => Number.parseInt(digits, 16)))
}
