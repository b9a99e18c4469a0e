package VidgenTest::Loop;

# A small event loop: sockets that may be read or written, and timers.

use strict;
use warnings;

use IO::Poll qw(POLLIN POLLOUT POLLERR POLLHUP);
use Time::HiRes qw(sleep time);


sub new {
    my ($class) = @_;
    return bless { poll => IO::Poll->new, watch => {}, timers => [] }, $class;
}


# Calls the handler whenever the socket may be read (or written); undef ends
# that.
sub on_read  { $_[0]->_watch($_[1], read => $_[2]) }
sub on_write { $_[0]->_watch($_[1], write => $_[2]) }

sub _watch {
    my ($self, $socket, $what, $handler) = @_;

    my $watch = $self->{watch}{$socket} //= { socket => $socket };
    $watch->{$what} = $handler;

    my $mask = ($watch->{read} ? POLLIN : 0) | ($watch->{write} ? POLLOUT : 0);
    $self->{poll}->mask($socket => $mask);
    delete $self->{watch}{$socket} unless $mask;
}


sub forget {
    my ($self, $socket) = @_;
    $self->{poll}->remove($socket) if defined fileno $socket;
    delete $self->{watch}{$socket};
}


# Calls the handler once, $seconds from now.
sub after {
    my ($self, $seconds, $handler) = @_;
    my $timer = { time => time + $seconds, handler => $handler };
    $self->{timers} = [sort { $a->{time} <=> $b->{time} }
        @{ $self->{timers} }, $timer];
    return $timer;
}

sub cancel {
    my ($self, $timer) = @_;
    $self->{timers} = [grep { $_ != $timer } @{ $self->{timers} }];
}


# Turns until $condition is true (or for ever), at most for $seconds; returns
# what the condition returned.
sub run {
    my ($self, $condition, $seconds) = @_;

    my $end = defined $seconds ? time + $seconds : undef;

    while (1) {
        my $value = $condition ? $condition->() : 0;
        return $value if $value || defined $end && time > $end;
        $self->_turn($end);
    }
}

sub _turn {
    my ($self, $end) = @_;

    my $until = $self->{timers}[0] ? $self->{timers}[0]{time} : undef;
    $until = $end if defined $end && (!defined $until || $end < $until);
    my $timeout = defined $until ? $until - time : 60;
    $timeout = 0 if $timeout < 0;

    if (%{ $self->{watch} }) {
        $self->_serve if $self->{poll}->poll($timeout) > 0;

    } else {
        sleep $timeout;
    }

    while ($self->{timers}[0] && $self->{timers}[0]{time} <= time) {
        my $timer = shift @{ $self->{timers} };
        $timer->{handler}->();
    }
}

sub _serve {
    my ($self) = @_;

    for my $watch (my @all = values %{ $self->{watch} }) {
        my $socket = $watch->{socket};
        next unless defined fileno $socket;
        my $events = $self->{poll}->events($socket) or next;

        # a handler may have forgotten this socket, or changed its own watch
        $watch->{write}->()
            if $watch->{write} && $events & (POLLOUT | POLLERR | POLLHUP)
                && $self->{watch}{$socket};
        $watch->{read}->()
            if $watch->{read} && $events & (POLLIN | POLLERR | POLLHUP)
                && $self->{watch}{$socket};
    }
}


1;
