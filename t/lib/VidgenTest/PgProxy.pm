package VidgenTest::PgProxy;

# A TCP proxy before PostgreSQL that loses things on purpose.
#
#   my $proxy = VidgenTest::PgProxy->new($pg);
#   $proxy->conninfo;                           # for vidgen_database
#   $proxy->cut(statement => qr/apply/);        # the next apply: committed,
#                                               # but its answer is lost
#
# It reads the protocol in both directions: what a client sends up to a Sync
# (or a simple query) is one step, and its answer ends with ReadyForQuery; by
# then an implicit transaction is committed.  The answer of a step is passed
# on as a whole.
#
# cut() takes
#   statement  a pattern: only steps that execute a statement whose name or
#              text matches count (all that execute something do)
#   nth        which of them, from now on (1)
#   times      how many in a row (1)
#   when       "after": the server's answer is thrown away (default)
#              "before": the step never reaches the server
#   answer     a pattern: the connection is cut as soon as it stands in the
#              bytes of the server's answer, which is not passed on either
#
# hold(both) stops passing on the server's answers (or, with "both", anything)
# as a dead network would; release() goes on.  refuse() closes the port and
# the connections; accept() opens it again.

use strict;
use warnings;

use parent 'VidgenTest::Daemon';

use IO::Socket::INET;

use VidgenTest::Util qw(free_port wait_for);

use constant {                      # codes that begin an untyped message
    CANCEL => 80877102,
    SSL    => 80877103,
    GSSAPI => 80877104,
};


sub new {
    my ($class, $pg) = @_;
    return $class->start(port => free_port(), edge => $pg->edge_conninfo,
        server => '127.0.0.1:' . $pg->port);
}


sub port { $_[0]{port} }

# As Postgres::edge_conninfo(), through the proxy.
sub conninfo {
    my ($self) = @_;
    return $self->{edge} =~ s/\bport=\d+/port=$self->{port}/r;
}

sub cut {
    my ($self, %rule) = @_;
    $rule{$_} = "$rule{$_}" for grep { $rule{$_} } qw(statement answer);
    $self->call(cut => { nth => 1, times => 1, when => 'after', %rule });
}

sub hold    { $_[0]->call(hold => $_[1] // '') }
sub release { $_[0]->call('release') }
sub refuse  { $_[0]->call('refuse') }
sub accept  { $_[0]->call('accept') }

# Cuts all connections now.
sub drop { $_[0]->call('drop') }

# { open, total: connections; steps; cuts; rules: those still waiting }
sub stat { $_[0]->call('stat') }

sub wait_cuts {
    my ($self, $n, $seconds) = @_;
    return wait_for { $self->stat->{cuts} >= $n } $seconds;
}


# ---- in the process --------------------------------------------------------

sub set_up {
    my ($self) = @_;
    @$self{qw(pairs rules hold total steps cuts)} = ({}, [], '', 0, 0, 0);
    $self->do_accept;
}

sub do_accept {
    my ($self) = @_;
    return 1 if $self->{listener};
    $self->{listener} = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $self->{port}, Listen => 256, ReuseAddr => 1,
        Blocking => 0) or die "port $self->{port}: $@";
    $self->{loop}->on_read($self->{listener}, sub { $self->_accept });
    return 1;
}

sub do_refuse {
    my ($self) = @_;
    if (my $listener = delete $self->{listener}) {
        $self->{loop}->forget($listener);
        close $listener;
    }
    return $self->do_drop;
}

sub do_drop {
    my ($self) = @_;
    _close($_) for values %{ $self->{pairs} };
    $self->{pairs} = {};
    return 1;
}

sub do_cut {
    my ($self, $rule) = @_;
    $rule->{$_} = qr/$rule->{$_}/ for grep { $rule->{$_} }
        qw(statement answer);
    push @{ $self->{rules} }, $rule;
    return 1;
}

sub do_hold {
    my ($self, $what) = @_;
    $self->{hold} = $what || 'answers';
    return 1;
}

sub do_release {
    my ($self) = @_;
    $self->{hold} = '';
    for my $pair (values %{ $self->{pairs} }) {
        $self->_from_client($pair);
        $self->_from_server($pair) unless $pair->{closed};
    }
    return 1;
}

sub do_stat {
    my ($self) = @_;
    return { open => scalar keys %{ $self->{pairs} },
        rules => scalar @{ $self->{rules} },
        map { $_ => $self->{$_} } qw(total steps cuts) };
}


sub _accept {
    my ($self) = @_;

    while (my $socket = $self->{listener}->accept) {
        my $id = ++$self->{total};
        my $pair = $self->{pairs}{$id} = { id => $id, steps => [],
            text => '', answer => '' };

        $pair->{client} = VidgenTest::Stream->new($self->{loop}, $socket,
            on_data => sub { $self->_from_client($pair) },
            on_end  => sub { $self->_forget($pair) });
        $pair->{server} = VidgenTest::Stream->connect($self->{loop},
            $self->{server},
            on_data => sub { $self->_from_server($pair) },
            on_end  => sub { $self->_server_ended($pair) });
    }
}

# The last words of a server are an error without an end of the step.
sub _server_ended {
    my ($self, $pair) = @_;
    return if $pair->{closed};
    $pair->{client}->send($pair->{answer});
    $pair->{client}->finish;
    delete $self->{pairs}{ $pair->{id} };
}

sub _forget {
    my ($self, $pair) = @_;
    _close($pair);
    delete $self->{pairs}{ $pair->{id} };
}

sub _close {
    my ($pair) = @_;
    $pair->{closed} = 1;
    $_ && $_->close for @$pair{qw(client server)};
}

sub _cut {
    my ($self, $pair) = @_;
    $self->{cuts}++;
    $self->_forget($pair);
}


# The client's messages, gathered until a step is complete.
sub _from_client {
    my ($self, $pair) = @_;

    return if $self->{hold} eq 'both';

    my $in = \$pair->{client}{in};
    $self->_first_message($pair, $in) or return unless $pair->{started};

    while (!$pair->{closed} && length $$in >= 5) {
        my ($type, $length) = unpack 'a N', $$in;
        last if length $$in < $length + 1;

        my $message = substr $$in, 0, $length + 1, '';
        $pair->{request} .= $message;
        $pair->{text} .= "\n" . _names($type, substr $message, 5);
        $pair->{executes} = 1 if $type =~ /[EQ]/;
        next unless $type =~ /[SQpXH]/;

        if ($type =~ /[SQ]/) {
            my $cut = $self->_step($pair);
            return $self->_cut($pair) if $cut eq 'before';
            push @{ $pair->{steps} }, $cut;
        }

        $pair->{server}->send($pair->{request});
        $pair->{request} = '';
    }
}

# What a connection begins with has no type byte.
sub _first_message {
    my ($self, $pair, $in) = @_;

    while (length $$in >= 8) {
        my ($length, $code) = unpack 'N N', $$in;
        return 0 if length $$in < $length;
        my $message = substr $$in, 0, $length, '';

        if ($code == SSL || $code == GSSAPI) {
            $pair->{client}->send('N');
            next;
        }

        $pair->{server}->send($message);
        $pair->{started} = 1;
        push @{ $pair->{steps} }, '';       # its answer is ReadyForQuery too
        return $code != CANCEL;
    }
    return 0;
}

# What names the statement: Parse has its name and text, Bind the portal and
# the statement, Query the text.
sub _names {
    my ($type, $body) = @_;
    return $body if $type eq 'Q';
    return '' if $type !~ /[PB]/;
    my ($first, $second) = split /\0/, $body;
    return join ' ', grep { defined } $first, $second;
}

# Which way this step is to be cut, '' for none.
sub _step {
    my ($self, $pair) = @_;

    my ($text, $executes) = @$pair{qw(text executes)};
    @$pair{qw(text executes)} = ('', 0);
    $self->{steps}++;
    return $executes ? $self->_match($text) : '';
}

sub _match {
    my ($self, $text) = @_;

    for my $rule (@{ $self->{rules} }) {
        next if $rule->{answer};
        next if $rule->{statement} && $text !~ $rule->{statement};
        next if --$rule->{nth} > 0;

        if (--$rule->{times} == 0) {
            $self->{rules} = [grep { $_ != $rule } @{ $self->{rules} }];
        }
        return $rule->{when};
    }
    return '';
}


# The server's messages, gathered until a step's answer is complete.
sub _from_server {
    my ($self, $pair) = @_;

    return if $self->{hold};

    my $in = \$pair->{server}{in};

    while (!$pair->{closed} && length $$in >= 5) {
        my ($type, $length) = unpack 'a N', $$in;
        last if length $$in < $length + 1;

        $pair->{answer} .= substr $$in, 0, $length + 1, '';
        return $self->_cut($pair) if $self->_match_answer($pair->{answer});

        if ($type eq 'Z') {
            my $cut = shift @{ $pair->{steps} } // '';
            return $self->_cut($pair) if $cut eq 'after';

        } elsif ($type !~ /[RAN]/ || length $pair->{answer} > $length + 1) {
            next;
        }

        $pair->{client}->send($pair->{answer});
        $pair->{answer} = '';
    }
}

sub _match_answer {
    my ($self, $answer) = @_;

    for my $rule (@{ $self->{rules} }) {
        next unless $rule->{answer} && $answer =~ $rule->{answer};
        next if --$rule->{nth} > 0;
        $self->{rules} = [grep { $_ != $rule } @{ $self->{rules} }]
            if --$rule->{times} == 0;
        return 1;
    }
    return 0;
}


1;
