package VidgenTest::Stream;

# A non-blocking connection on the event loop, with buffers.
#
# What arrives is appended to $stream->{in}, then on_data is called with the
# stream; on_end is called once when the peer has finished or is gone.  Where
# a TLS handshake comes first, handshake goes on with it: 1 done, 0 not yet,
# undef failed.

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_ERROR SO_LINGER);


sub new {
    my ($class, $loop, $socket, %on) = @_;

    $socket->blocking(0);
    my $self = bless { loop => $loop, socket => $socket, in => '', out => '',
        %on }, $class;
    $self->_start_reading;
    return $self;
}


# To "host:port" or to the path of a Unix socket; a connection that fails ends
# like one that is closed, with the reason in $stream->{error}.
sub connect {
    my ($class, $loop, $address, %on) = @_;

    my $socket = $address =~ m{^/}
        ? IO::Socket::UNIX->new(Peer => $address)
        : IO::Socket::INET->new(PeerAddr => $address, Proto => 'tcp',
            Blocking => 0);

    return $class->new($loop, $socket, %on) if $socket;

    my $self = bless { loop => $loop, in => '', out => '', error => "$!",
        %on }, $class;
    $loop->after(0, sub { $self->_end });
    return $self;
}


sub send {
    my ($self, $bytes) = @_;
    return if !$self->{socket} || $self->{finishing};
    return if $bytes eq '';
    $self->{out} .= $bytes;
    $self->{loop}->on_write($self->{socket}, sub { $self->_flush });
}


# Closes when all that was sent has left.
sub finish {
    my ($self) = @_;
    $self->{finishing} = 1;
    $self->close if $self->{out} eq '';
}


sub close {
    my ($self) = @_;
    $self->{out} = '';
    my $socket = delete $self->{socket} or return;
    $self->{loop}->forget($socket);
    CORE::close $socket;
}


# Closes with a reset; what was not sent yet is lost.
sub reset {
    my ($self) = @_;
    my $socket = $self->{socket} or return;
    setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    $self->close;
}


# Stops and starts reading from the peer.
sub pause {
    my ($self) = @_;
    $self->{loop}->on_read($self->{socket}, undef) if $self->{socket};
}

sub resume {
    my ($self) = @_;
    $self->_start_reading if $self->{socket};
}


sub is_open { defined $_[0]{socket} }


sub _start_reading {
    my ($self) = @_;
    $self->{loop}->on_read($self->{socket}, sub { $self->_read });
}

sub _read {
    my ($self) = @_;

    if ($self->{handshake}) {
        my $done = $self->{handshake}->();
        return $self->_end('handshake') unless defined $done;
        return unless $done;
        delete $self->{handshake};
        $self->{tls} = 1;
    }

    while ($self->{socket}) {
        my $n = $self->{socket}->sysread($self->{in}, 65536,
            length $self->{in});

        if (!defined $n) {
            last if _would_block();
            return $self->_end("$!");
        }

        return $self->_end if $n == 0;
        last if $n < 65536 && !$self->{tls};
    }

    $self->{on_data}->($self) if $self->{on_data};
}

sub _flush {
    my ($self) = @_;

    while ($self->{socket} && $self->{out} ne '') {
        my $n = $self->{socket}->syswrite($self->{out});

        if (!defined $n) {
            return if _would_block();
            return $self->_cut_off("$!");
        }

        substr $self->{out}, 0, $n, '';
    }

    return unless $self->{socket};
    $self->{loop}->on_write($self->{socket}, undef);
    $self->close if $self->{finishing};
}

# The peer takes no more; what it has said before is read all the same.
sub _cut_off {
    my ($self, $error) = @_;
    $self->{out} = '';
    $self->_read;
    $self->_end($error) if $self->{socket};
}

sub _end {
    my ($self, $error) = @_;
    $self->{error} //= $error;
    $self->{ended} = 1;
    $self->{on_data}->($self) if $self->{on_data} && $self->{in} ne '';
    $self->close;
    my $handler = delete $self->{on_end};
    $handler->($self) if $handler;
}

sub _would_block {
    return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR
        || $! == EINPROGRESS;
}


1;
