package VidgenTest::Http2;

# An HTTP/2 client (without TLS) for what curl cannot do: to begin a request
# and leave it while the connection stays.
#
#   my $h2 = VidgenTest::Http2->new($url);
#   $h2->begin('POST', '/generate-video', \%headers, $body);
#   $h2->cancel;                             # RST_STREAM
#   $h2->status('GET', '/');                 # another request: its status

use strict;
use warnings;

use IO::Socket::INET;

use VidgenTest::Util qw(patience);

use constant {
    DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6,
    END_STREAM => 1, ACK => 1, END_HEADERS => 4,
    CANCEL => 8,
};

# the entries of HPACK's static table that are a whole :status
my @status = (200, 204, 206, 304, 400, 404, 500);


sub new {
    my ($class, $url) = @_;

    my ($address) = $url =~ m{^http://([^/]+)} or die "not a URL: $url";
    my $socket = IO::Socket::INET->new(PeerAddr => $address)
        or die "$address: $@";
    my $self = bless { socket => $socket, address => $address, stream => -1,
        in => '' }, $class;

    $self->_write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . _frame(SETTINGS, 0, 0, ''));
    return $self;
}


sub begin {
    my ($self, $method, $uri, $headers, $body) = @_;

    my %headers = %{ $headers // {} };
    my $block = join '', map { _literal(@$_) } [':method', $method],
        [':scheme', 'http'], [':path', $uri], [':authority',
        $self->{address}], map { [lc, $headers{$_}] } sort keys %headers;

    my $id = $self->{stream} += 2;
    my $end = defined $body ? 0 : END_STREAM;
    $self->_write(_frame(HEADERS, END_HEADERS | $end, $id, $block));
    $self->_write(_frame(DATA, END_STREAM, $id, $body)) if defined $body;
    return $self;
}

sub cancel {
    my ($self) = @_;
    $self->_write(_frame(RST_STREAM, 0, $self->{stream}, pack 'N', CANCEL));
}

sub close { close $_[0]{socket} }

# The status of a request, 0 where the connection ends before.
sub status {
    my ($self, @request) = @_;

    $self->begin(@request);
    local $SIG{ALRM} = sub { die "no answer over HTTP/2\n" };
    alarm 10 * patience();

    while (my ($type, $flags, $id, $payload) = $self->_read) {
        $self->_write(_frame($type, ACK, 0, $type == PING ? $payload : ''))
            if ($type == SETTINGS || $type == PING) && !($flags & ACK);
        next unless $type == HEADERS && $id == $self->{stream};
        alarm 0;
        return _status($payload);
    }

    alarm 0;
    return 0;
}


sub _write {
    my ($self, $bytes) = @_;
    syswrite $self->{socket}, $bytes;
}

sub _frame {
    my ($type, $flags, $id, $payload) = @_;
    return pack('CnCCN', length($payload) >> 16, length($payload) & 0xffff,
        $type, $flags, $id) . $payload;
}

sub _read {
    my ($self) = @_;

    while (1) {
        if (length $self->{in} >= 9) {
            my ($high, $low, $type, $flags, $id)
                = unpack 'CnCCN', $self->{in};
            my $length = ($high << 16) + $low;
            if (length $self->{in} >= 9 + $length) {
                my $frame = substr $self->{in}, 0, 9 + $length, '';
                return ($type, $flags, $id, substr $frame, 9);
            }
        }
        sysread $self->{socket}, $self->{in}, 65536, length $self->{in}
            or return;
    }
}

# A header field that is not indexed, without Huffman coding.
sub _literal {
    my ($name, $value) = @_;
    return "\0" . _string($name) . _string($value);
}

sub _string {
    my ($text) = @_;
    my $length = length $text;
    return chr($length) . $text if $length < 127;

    my $bytes = chr 127;
    $length -= 127;
    while ($length >= 128) {
        $bytes .= chr(128 | $length & 127);
        $length >>= 7;
    }
    return $bytes . chr($length) . $text;
}

# nginx begins with the status, after a change of the table's size at most:
# indexed, or its name indexed and the value literal.
sub _status {
    my ($block) = @_;
    $block =~ s/\A[\x20-\x3f]+//;
    my $first = ord $block;
    return $status[$first - 0x88] if $first >= 0x88 && $first <= 0x8e;
    return substr $block, 2, 3;
}


1;
