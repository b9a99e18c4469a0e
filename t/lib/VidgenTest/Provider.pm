package VidgenTest::Provider;

# A stand-in for a video provider with a queue API, in a process of its own.
#
#   my $provider = VidgenTest::Provider->new;
#   $provider->url;                                  # http://127.0.0.1:PORT
#   $provider->answer(status => 503);                # from now on
#   $provider->next(delay => 1, status => 500);      # for one request
#   my $requests = $provider->requests;              # what it got so far
#
# By default a POST is accepted with {"request_id": ..., "status_url": ...} and
# a GET says that the job is in the queue.  An answer may have
#
#   status, headers ({ }), body (text, or data that becomes JSON)
#   delay    seconds before the answer
#   wait     true: the answer waits for $provider->release
#   drop     "before": reset without reading the request;
#            "after":  closed when the request was read;
#            "middle": closed in the middle of the answer's body
#   hang     true: never answers
#   stall    true: stops in the middle of the answer's body
#   trickle  seconds between the single bytes of the answer
#   webhook  { delay, and what signed_webhook() takes }: after the answer a
#            signed webhook goes to the URL that the request named
#
# Options of new(): tls => 1 (https, with a certificate for localhost and
# 127.0.0.1 by $provider->ca, a file), secret (of the webhooks), auto (a
# webhook for each accepted request), prefix (of the ids that it gives).

use strict;
use warnings;

use parent 'VidgenTest::Daemon';

use Digest::SHA qw(hmac_sha256_hex);
use File::Temp ();
use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(time);

use VidgenTest::Http::Message;
use VidgenTest::Util qw(free_port wait_for);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;


sub new {
    my ($class, %opt) = @_;

    my %self = (
        port   => free_port(),
        secret => 'webhook-secret',
        prefix => sprintf('req-%06x', rand 0x1000000),
        %opt,
    );

    if ($self{tls}) {
        require VidgenTest::Certificate;
        $self{certificate} = VidgenTest::Certificate->new;
    }

    return $class->start(%self);
}


sub port   { $_[0]{port} }
sub secret { $_[0]{secret} }
sub host   { '127.0.0.1:' . $_[0]{port} }
sub url    { ($_[0]{tls} ? 'https://' : 'http://') . $_[0]->host }
sub ca     { $_[0]{certificate}->ca }


# The answer from now on, for one more request, or for requests whose
# "METHOD uri" matches a pattern.
sub answer { my ($self, @a) = @_; $self->call(answer => { @a }) }
sub next   { my ($self, @a) = @_; $self->call(next => { @a }) }
sub on     { my ($self, $re, @a) = @_; $self->call(on => "$re", { @a }) }

# One answer after the other ({ }, ...) for such requests; the last one stays.
sub script { my ($self, $re, @a) = @_; $self->call(script => "$re", [@a]) }

# Lets the answers go that wait, and returns how many there were.
sub release { $_[0]->call('release') }

# Back to the beginning: default answers, nothing recorded; but no id is given
# twice.
sub forget { $_[0]->call('forget') }


# The requests so far only.
sub forget_requests { $_[0]->call('forget_requests') }


# All requests so far, oldest first: { method, uri, headers (lower-case names),
# body, time, id (given in the answer), answer (its status), dropped }.
sub requests { $_[0]->call('requests') }

# Waits until there are $n and returns them; nothing if they do not come.
sub wait_requests {
    my ($self, $n, $seconds) = @_;
    my $all;
    wait_for { $all = $self->requests; @$all >= $n } $seconds or return;
    return $all;
}

# The webhooks that it sent: { url, headers, body, status, answer,
# answer_headers }, status 0 while there is no answer.
sub webhooks { $_[0]->call('webhooks') }

sub wait_webhooks {
    my ($self, $n, $seconds) = @_;
    my $all;
    wait_for { $all = $self->webhooks; $n == grep { $_->{status} } @$all }
        $seconds or return;
    return $all;
}

# Sends one to a URL now; arguments as for signed_webhook().
sub send_webhook {
    my ($self, $url, %args) = @_;
    $self->call(webhook => $url, { %args });
}


# A webhook as the provider would send it: (headers { }, body).  Arguments:
# id, status (completed), video_url, error, secret, more { } for the body; or
# body: the exact text to sign.
sub signed_webhook {
    my ($self, %args) = @_;

    my $body = $args{body};

    if (!defined $body) {
        my $status = $args{status} // 'completed';
        my %data = (request_id => $args{id}, status => $status);
        if ($status eq 'completed') {
            my $url = $args{video_url} // "https://cdn.test/$args{id}.mp4";
            $data{output} = { video_url => $url };
        }
        $data{error} = $args{error} // 'out of memory' if $status eq 'failed';
        $body = $json->encode({ %data, %{ $args{more} // {} } });
    }

    my $secret = $args{secret} // $self->{secret};
    my %headers = (
        'Content-Type' => 'application/json',
        'X-Signature'  => hmac_sha256_hex($body, $secret),
    );
    return (\%headers, $body);
}


# ---- in the process --------------------------------------------------------

sub set_up {
    my ($self) = @_;

    $self->do_forget;
    $self->{listener} = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $self->{port}, Listen => 1024, ReuseAddr => 1,
        Blocking => 0) or die "port $self->{port}: $@";
    $self->{loop}->on_read($self->{listener}, sub { $self->_accept });
}


sub do_forget {
    my ($self) = @_;
    @$self{qw(default next on requests webhooks waiting)}
        = ({}, [], [], [], [], []);
    return 1;
}

sub do_answer   { my ($self, $a) = @_; $self->{default} = $a; 1 }
sub do_next     { my ($self, $a) = @_; push @{ $self->{next} }, $a; 1 }
sub do_on       { my ($self, $re, $a) = @_;
                  unshift @{ $self->{on} }, [qr/$re/, $a]; 1 }
sub do_script   { my ($self, $re, $answers) = @_;
                  unshift @{ $self->{on} }, [qr/$re/, @$answers]; 1 }
sub do_release  { my ($self) = @_;
                  my @all = splice @{ $self->{waiting} };
                  $self->_answer(@$_) for @all;
                  return scalar @all }
sub do_requests { $_[0]{requests} }
sub do_forget_requests { $_[0]{requests} = []; 1 }
sub do_webhooks { $_[0]{webhooks} }
sub do_webhook  { my ($self, $url, $args) = @_;
                  $self->_send_webhook($url, $args); 1 }


sub _accept {
    my ($self) = @_;

    while (my $socket = $self->{listener}->accept) {
        my $first = $self->{next}[0] // $self->{default};

        my $drop = ($first->{drop} // '') eq 'before';
        my $tls = $self->{certificate} && !$drop
            ? $self->{certificate}->serve($socket) : undef;

        my $stream = VidgenTest::Stream->new($self->{loop}, $socket,
            handshake => $tls, on_data => sub { $self->_read($_[0]) });

        next unless $drop;
        shift @{ $self->{next} };
        push @{ $self->{requests} }, { dropped => 'before', time => time };
        $stream->reset;
    }
}


# A connection may carry several requests, one after the other.
sub _read {
    my ($self, $stream) = @_;

    return if $stream->{busy};
    my $request = VidgenTest::Http::Message::take_request(\$stream->{in})
        or return;

    $stream->{busy} = 1;
    $request->{time} = time;
    push @{ $self->{requests} }, $request;

    my $answer = $self->_choose($request);
    return if $answer->{hang};

    if ($answer->{wait}) {
        push @{ $self->{waiting} }, [$stream, $request, $answer];
        return;
    }

    $self->{loop}->after($answer->{delay} // 0,
        sub { $self->_answer($stream, $request, $answer) });
}

sub _choose {
    my ($self, $request) = @_;

    return shift @{ $self->{next} } if @{ $self->{next} };

    for my $rule (@{ $self->{on} }) {
        next unless "$request->{method} $request->{uri}" =~ $rule->[0];
        return @$rule > 2 ? splice @$rule, 1, 1 : $rule->[1];
    }

    return $self->{default};
}


sub _answer {
    my ($self, $stream, $request, $answer) = @_;

    my $drop = $answer->{drop} // '';

    if ($drop eq 'after') {
        $request->{dropped} = $drop;
        return $stream->close;
    }

    my $status = $request->{answer} = $answer->{status} // 200;
    my $body = $answer->{body} // $self->_usual_body($request, $status);
    $body = $json->encode($body) if ref $body;

    my %headers = ('Content-Type' => 'application/json',
        %{ $answer->{headers} // {} });
    my $close = ($request->{headers}{connection} // '') =~ /close/i;
    $headers{Connection} = 'close' if $close;

    my $bytes = VidgenTest::Http::Message::response($status, \%headers, $body);

    if ($drop eq 'middle') {
        $request->{dropped} = $drop;
        substr($bytes, -int((length($body) + 1) / 2)) = '';
        $close = 1;
    }

    return $stream->send(substr $bytes, 0, -int((length($body) + 1) / 2))
        if $answer->{stall};

    my $then = sub {
        $stream->{busy} = 0;
        return $stream->finish if $close;
        $self->_read($stream);
    };

    my $webhook = $answer->{webhook} // $self->{auto};
    $self->_call_back($request, $webhook)
        if $webhook && $status < 300 && !$drop && $request->{method} eq 'POST';

    return $self->_trickle($stream, $bytes, $answer->{trickle}, $then)
        if $answer->{trickle};

    $stream->send($bytes);
    $then->();
}

sub _trickle {
    my ($self, $stream, $bytes, $pause, $then) = @_;

    return $then->() if $bytes eq '' || !$stream->is_open;
    $stream->send(substr $bytes, 0, 1, '');
    $self->{loop}->after($pause,
        sub { $self->_trickle($stream, $bytes, $pause, $then) });
}


sub _usual_body {
    my ($self, $request, $status) = @_;

    return { detail => "stand-in provider says $status" } if $status >= 300;
    return { status => 'queued' } if $request->{method} ne 'POST';

    my $id = $request->{id} = "$self->{prefix}-" . ++$self->{number};
    my $url = $self->url . "/requests/$id";
    return { request_id => $id, job_id => $id, id => $id,
        status => 'IN_QUEUE', status_url => "$url/status",
        response_url => $url, cancel_url => "$url/cancel" };
}


sub _call_back {
    my ($self, $request, $webhook) = @_;

    my $data = eval { $json->decode($request->{body}) } // {};
    my $url = $data->{webhook_url} or return;
    my %args = (id => $request->{id}, ref $webhook ? %$webhook : ());

    $self->{loop}->after(delete $args{delay} // 0,
        sub { $self->_send_webhook($url, \%args) });
}

sub _send_webhook {
    my ($self, $url, $args) = @_;

    my ($headers, $body) = $self->signed_webhook(%$args);
    my $sent = { url => $url, headers => $headers, body => $body, status => 0 };
    push @{ $self->{webhooks} }, $sent;

    my ($address, $bytes)
        = VidgenTest::Http::Message::request('POST', $url, $headers, $body);

    my $stream = VidgenTest::Stream->connect($self->{loop}, $address,
        on_end => sub {
            my $got = VidgenTest::Http::Message::take_response(\$_[0]{in}, 1);
            @$sent{qw(status answer answer_headers)}
                = $got ? @$got{qw(status body headers)} : (599, '', {});
        });
    $stream->send($bytes);
}


1;
