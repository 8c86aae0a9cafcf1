# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Stands for etfsboot.com: reads the medium's volume descriptor through the BIOS and prints the volume's label on the serial port.
        .code16
        .globl _start
_start: xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        cld
        movw $packet, %si
        movb $0x42, %ah
        int $0x13
        jc failed
        movw $hello, %si
        call print
        movw $0x8028, %si
        movb $0, 0x8048
        call print
        movw $end, %si
        call print
stop:   hlt
        jmp stop
failed: movw $bad, %si
        call print
        jmp stop
print:  lodsb
        testb %al, %al
        jz 2f
        movb %al, %ah
        movw $0x3fd, %dx
1:      inb %dx, %al
        testb $0x20, %al
        jz 1b
        movb %ah, %al
        movw $0x3f8, %dx
        outb %al, %dx
        jmp print
2:      ret
packet: .byte 16, 0
        .word 1, 0x8000, 0
        .long 16, 0
hello:  .asciz "OSD-BOOT bios "
end:    .asciz "\r\nOSD-END\r\n"
bad:    .asciz "OSD-BOOT read error\r\nOSD-END\r\n"
        .org 4096
