"""LMDB databases: what is written is read, what LMDB's library wrote is read, and nothing damaged does harm."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from pathlib import Path

import pytest

from vultus.errors import VultusError
from vultus.files.lmdb import LmdbReader
from vultus.files.lmdb_writing import write_lmdb

# Written by LMDB 0.9.36 in three transactions: keys KK_I for KK 00 to 02, I 0 to 39, one deleted afterwards.
FROM_LIBRARY = (
    "c-rmTUud269mnw}ZBEX4{-?1?W37LiNvT7gf9IU%h_oGyD#LanS#NYk>X0@ovW;Oo88wvI-8d2JN~yik4RK}6tVk`RcD-<A)D9#{K_?{>Sv!%s"
    "3+=><vNSpUp5OP$1LJ^<<Mw`CB<b7qBaJzdZ%%4iSJmcUo;&%;i9X9TD6eW(=bz~J>HK=Mw07QF-hO>=`?X*AeM>9=00000@MY`!lJ5Vjcl+3X"
    "xc_fxzuwt?eQn|QE#*H6000000AIQ###;|r+q{p%v*A$qMet#8CU`YC6zmNi4Yma9f|KEzU@-XHpY>1sNBo2S9)E{F?jH{C^vC?bzvP|sPI=Sb"
    "0dLCN=Isxs!pU$v+z_q}`3M650094gocWg(D~cx4)`(C&4~6Q@ny`+!SDs5;=nb!Iz5ba{J-aAWPtOarp15V}@w-CxXhxVlX}u}T^(1#n)|2Mz"
    "LiNT`p?dulq1H3IY(0HJsGb}Ys>l0;T90Za>v8Kzp?bbssNUQu%=NfYEnBZ|7piAlh3e`3LaiqQW$W=Kp?b7Yw0r-R-dZmfw&!bJQOonK84IH}"
    ")(WH6R|{h`>tDQ@4hy3ufiP-Z6~=0G^?CNr^X>hMp3?^a00000{~P)X_x~yY0000zk4pwXw<?AEKL-E+0MPTeWB_z)pm6_>0{{R3=y_Z+0J>Ez"
    "-2XoS0002c^SERHbgNdl|DOT?007YQxMToy%P!piF9QGo0O)yKG61^e6z=~w00000^gJ#Z0Nrv6_x~&a004lV$0Y-xTVCP*?*jk;0MPTeWB_!_"
    "m$#N!)7D$HkHfR!Q20ggVQ?mRH8>RP4IT})1nYv6;hJDD_}riMPy0vwgZ>_Whd=Hg4)65G{J_8Do%2q4)7}AZ%G>7c52wP(a6H@)t_{b%b>8Fd"
    "R`(t^b62_j?nURUbHaJaS>rw9>~bD*?sgJqrL)BO$bQE@ZV!3Cwx6;evmdlK+PB-Iwq;+ay;ZyHUT|mJ<L=Auvo8Oq2LJ#?3xA)nVny*p+FBu0"
    "&j*F-O<VLGb1kc{-5V>~Um~gZu3r+WXP*ew(+fhaCnII+@q0q`=xt&4q;*D^>q$ObvYs?g2-O>}3DxV<Lak@Z%huBuh3d)kLiPALq1K~oO4j4n"
    "UZHyagiyV?OPK3%W2kJsJ}Fes9u}&n4+yoMEGt`&Hw)FHyF|P9U+Jw4Vqtr}=7Z|*?#{PnB8=L&O&GO4CXCfAT)di&2%{#UFlt;A#%dI()ww@y"
    "H21jd%&MMuhE;ENrY-px&-I39m8{o46RKwyh3e^fq1F?(Y(0Kgs2<G-vnQ=Lg}I*OPRV-Gd|jyCI4V@HzarFnW|ys}F9_9>gF^LqpHS;jtz<oJ"
    "Jt<VrcMH{<JB7I(H>zdp_3c9SY^zW`y<e#HWT0$4-Xv6yHj2*UBARHe7xK9tP2`p0BPg0^#=@wLwZf?N)xucK`WLUJ!@{UZAdDJUg|QkfZLbDA"
    "{|^8F0DR@}OeTPCg@yb7dH?_b06mXO20*t43-^Bu0000$&*PE-(5+>K`~N!t0001b9+wP&ZVeUg{~rPX008KDTrvQ<bxq;^{{;X50DzvyB?F*a"
    "%M17aZvX%Q0Q5XA835fHF5Lfr0ssI2(DS%t0Ca1laR2`e0000$&*PE-(5)4P`+o@l004lV*XwtNGyk$;MbSjs8WF1Jp-{b96V@@;n!8gLdc!MQ"
    "uYV>~&n^np)AK^DCvMq#{H{<vnh|DCT5k$-J;|Mt^`!Z_P`z<fs9t|XsP)V)TTfpQswW49>hV6I)}va<dfa+asGjc@syBBEb3JZU%hv1Lh3eT>"
    "p?Z41Q0vJ+*?PQ5s2*(;?cRT-x7Le=?fIHl)bf05#=@wLwZf?N)xucK`WLUJ!@{UZAdDJUg|QkfZLf~XBXo&1WX*=NA>R`L00000;HzeE{$<U&"
    "`VGQ9x%L-aYux{rt<9B>!?WR<a4`HL_#ikP90?8uKMQsQ<H5;rU2tm<1eg3-|Ihxkf56}4Px^<$`}{lnG2in)_1^bRdB5}ad%L~;;Z!&oZV5Mp"
    "lis-ZjJwO->VC^j+?8&>`?2$mbKF_yz2rRYJmx&;-0eipsAD-F*)#SU?+^Bi_EYwc?FZ~{+PB*y_T}2&Ys<aM?ge+oJ>kCW&eV?AKCjMJPgjpr"
    "4_5b7cT~r#cUH%$FV%wTrGaw;rv|164h&2UY#X?5;EsW3YPSqH1D{sjue?$DZDoIDcjb}F=E_fNkJRq1-BG)>Hdy<j%4Z0GZpn9vlZmu7dR2KH"
    "RqvfI6RI~I(fN+`TyLx{`*+s=B~;J;DO6AYA=G+uOWAt-SD||Jjxc-D`in5vll<nA^`!Ynp?c$(P`&<pq1LmT%GT3g3DuKBLiPBULaj$PmaNCE"
    "p9|IVDWQ7vC&FBh8#k1#*S{}R&%P&AProbFdUAc)di-sndUUtwJj;+ww7wzanS*2^U!|7kTQe0#ZG2rAwf;3>tY+6OUQJgBqb7sGsIe`K)o5k$"
    "qY%$ME<3Y*X3smrsy92+eeyA$>y4{FI;q~feo3gFeIis(F9@}sjFhd%?+MkTw}si0))`^0C;4#6deS^0RByZ{RIg79wVo|6TTfpUswdA2)#K-c"
    "T92+NS&v(Lh3feeLiOe@VXnuGp|bV*q)<J3Sg4*pAk=!YtZY5rEL4x~5`FTy9#6D32>D!(C-TAKBPgC|Cc>zV+k{c;W5QU?!o{m;=jnT+CY>km"
    "jT(2Jx;Iv%p!m4trvmt?0DdY!{P&*!UnyVF^7H=y0000#|NkX_znn{-OP@=>XMX<wy2AZ`0{{R3fS$)s<N@f`s>1z$2LJ#7fS$)C1E5>i7w-Qp"
    "00000dLEYyfNtGTxc`3y0001>=W)pZ=+=#e`~PVG0000zk4pwXw{9xj|Azqp008tnE*Svby18)wp8@~?0MPTeWB_#Qmcsr20RR91fS$)C1E5>0"
    "3-|w000000J&#KUK)1%^ttHlS>sUA&9t*Gh>cikn@M>@<*c&_=Yzfu{C&M+tVDPy=>!0?I_y_$x{tkcKKOElakNJUr$vfwr@}|85-juh^+aFGa"
    "li_%{AzT}dd+WT%-L39DZsx9X``wGqS?7fFlC#Ep#@XdO<lOBf&Pr#A^O60IecT@Mer-QxKW0B@Z?tc>M{Uc#P<yL(*}dS-xX0a>-DllC004jj"
    "XZ~xMiWS8ZX={a0Js%XRH*L{(%(bk(c5kd`e~F~tyM9Tio_!)zPcI0yo{W^O$L|T%qql|Glhzqwt|$3$$$HW}AyjX?CRDFa3$>mtFI!Jv6sjlB"
    "3)SQ2gj$cTDOrzOdxh%x6GHXoE@7_6jiIvj`lL`jdswKRJ|NV3vaD=9-Yis)?h@_Zf2FrJh=uL>nh&<8jrVLO!l;eggi-5b!dT71#jELvFlrJC"
    "qsBF1tVV%ao%_>9bC1i;tm=7ZSoLOS+LDj)TyJ<*$$I@Wp?Y>vsGgn|YCUnw*5h}D>d}lad(wJSnCnUIl&mMs*M;hhqeAuiD?+VjcG-IRf>1p<"
    "C{&O43AG;8O4j4nlS1`;w@|&gQ<&><qgu9J-!4?owhGnL`-NIh2FljsO+xi(qv$*?qKVdeA)o8fL|!RAf})9LER5P%D~wuSEsWKyfAMNMJUlx8"
    "tD3b`uJ;9_?bm+$^<ew`uKx4B!u$UljQA}`"
)


def read(folder: Path) -> dict[bytes, bytes]:
    with LmdbReader(folder) as reader:
        return dict(reader)


def some_entries(count: int, seed: int = 0) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    sizes = (0, 1, 50, 1900, 2010, 2030, 2040, 5000, 20000)
    return {f"{rng.randrange(10**6):06d}_{i}".encode(): rng.randbytes(rng.choice(sizes)) for i in range(count)}


def test_a_database_of_the_library_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(zlib.decompress(base64.b85decode(FROM_LIBRARY)))
    expected = {
        f"{k:02d}_{i}".encode(): bytes([(i * 7 + k) % 251]) * (10 if i % 4 else 3000)
        for k in range(3)
        for i in range(40)
    }
    del expected[b"00_5"]
    assert read(tmp_path) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 40, 700])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    entries = some_entries(count)
    assert write_lmdb(tmp_path, iter(entries.items())) == count
    found = read(tmp_path)
    assert found == entries
    assert list(found) == sorted(entries)


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    entries = some_entries(900)
    write_lmdb(tmp_path, iter(entries.items()))
    with lmdb.open(str(tmp_path), readonly=True, lock=False) as env, env.begin() as transaction:
        assert {bytes(key): bytes(value) for key, value in transaction.cursor()} == entries
        assert all(transaction.get(key) == value for key, value in entries.items())


@pytest.mark.parametrize("entries", [[(b"a_1", b""), (b"a_1", b"x")], [(b"", b"x")], [(b"k" * 512, b"x")]])
def test_impossible_keys_are_refused_and_nothing_is_left(tmp_path: Path, entries: list) -> None:
    with pytest.raises(VultusError):
        write_lmdb(tmp_path / "out", iter(entries))
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"\0" * 9000, b"SQLite format 3\0" * 600])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(VultusError):
        LmdbReader(tmp_path)
    with pytest.raises(VultusError):
        LmdbReader(tmp_path / "missing")


def test_cut_off_files_are_refused(tmp_path: Path) -> None:
    write_lmdb(tmp_path, iter(some_entries(60).items()))
    whole = (tmp_path / "data.mdb").read_bytes()
    for size in range(0, len(whole), 4096 * 7 + 13):
        (tmp_path / "data.mdb").write_bytes(whole[:size])
        with pytest.raises(VultusError):
            read(tmp_path)


def test_pages_that_form_a_circle_are_refused(tmp_path: Path) -> None:
    write_lmdb(tmp_path, iter([(f"{i:04d}_0".encode(), b"x" * 900) for i in range(40)]))
    content = bytearray((tmp_path / "data.mdb").read_bytes())
    root = struct.unpack_from("<Q", content, 4096 + 16 + 24 + 48 + 40)[0]
    start = root * 4096
    assert struct.unpack_from("<H", content, start + 10)[0] == 1
    place = struct.unpack_from("<H", content, start + 16)[0]
    struct.pack_into("<HHH", content, start + place, root, 0, 0)
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(VultusError, match="circle"):
        LmdbReader(tmp_path)


def test_random_damage_is_an_error_or_harmless(tmp_path: Path) -> None:
    write_lmdb(tmp_path, iter(some_entries(30, seed=3).items()))
    whole = (tmp_path / "data.mdb").read_bytes()
    pages = len(whole) // 4096
    rng = random.Random(1)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            # Heads of pages and their lists of places matter most.
            at = rng.randrange(pages) * 4096 + rng.choice([rng.randrange(48), rng.randrange(200), rng.randrange(4096)])
            content[at] = rng.randrange(256)
        (tmp_path / "data.mdb").write_bytes(content)
        try:
            assert all(len(value) <= len(whole) for value in read(tmp_path).values())
        except VultusError:
            refused += 1
    assert refused > 20
